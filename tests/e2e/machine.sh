#!/bin/bash
# machine.sh: the chassis control program of ipmi_sim, which calls it as
#   machine.sh MC get|set|check [parameter [value]]...
# A machine that is "on" is a QEMU process. When its system restarts itself, QEMU ends and another one begins: what
# the BMC wants booted next counts then too. Everything it is lives in the folder $MACHINE:
#   settings  sourced: firmware=bios|uefi, mac, tap, memory (MiB), serial_port (TCP, 0: serial.sock)
#   bootdev   pxe|default, consumed by the next power-on: IPMI's one-shot; QEMU falls back to its disk
#   serial.sock  whoever connects types on the serial console
#   qmp.sock     QEMU's monitor, for who counts what was written
#   power.log "<seconds since 1970> on pxe|default N" and "... off N" or "... restart N" when it happens;
#             serial-N.log
#   qemu.pid  is there exactly while the machine is on, also while it restarts
#   lock      held by whoever switches it: a restart and the BMC's word do not cross
cd "$MACHINE" || exit 1
. ./settings

running() { [ -e qemu.pid ]; }
stamp() { echo "$(date +%s.%N) $*" >> power.log; }

lock() { exec 8> lock; flock 8; }

power_on() { running || start; }

start() {
  local boot=default network=2 disk=1 count qemu serial=path=serial.sock,wait=off
  [ -s bootdev ] && boot=$(cat bootdev)
  rm -f bootdev
  if [ "$boot" = pxe ]; then network=1 disk=2; fi
  if [ "${serial_port:-0}" != 0 ]; then serial="host=127.0.0.1,port=$serial_port,wait=on"; fi # the BMC looks every few seconds
  count=$(($(cat count 2> /dev/null || echo 0) + 1))
  echo "$count" > count
  # one thread: two cores are all the tests may ask for, and other machines run beside this one
  qemu=(qemu-system-x86_64 -name "$(basename "$MACHINE")" -accel tcg,thread=single,tb-size=256 -cpu max -smp 1 -m "$memory"
    -qmp unix:qmp.sock,server=on,wait=off -no-reboot -trace qemu_system_shutdown_request
    -display none -nodefaults -no-user-config -rtc base=utc,clock=host -device virtio-rng-pci -chardev "socket,id=s0,$serial,server=on,logfile=serial-$count.log" -serial chardev:s0
    -netdev "tap,id=n0,ifname=$tap,script=no,downscript=no"
    -drive if=none,id=d0,format=raw,file=disk.img,cache=unsafe,discard=unmap
    -device "virtio-blk-pci,drive=d0,bootindex=$disk,serial=E2EDISK")
  if [ "$firmware" = uefi ]; then
    [ -e vars.fd ] || cp /usr/share/OVMF/OVMF_VARS_4M.fd vars.fd
    # without an option ROM the firmware's own PXE is used
    qemu+=(-machine q35 -device "virtio-net-pci,netdev=n0,mac=$mac,bootindex=$network,romfile="
      -drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
      -drive if=pflash,format=raw,unit=1,file=vars.fd)
  else
    qemu+=(-machine pc,graphics=off -device "virtio-net-pci,netdev=n0,mac=$mac,bootindex=$network")
  fi
  : > "serial-$count.log"
  stamp "on $boot $count"
  : > qemu.pid
  (
    exec 8>&- # the lock is not the machine's
    "${qemu[@]}" &
    mine=$!
    echo "$mine" > qemu.pid
    wait "$mine"
    code=$?
    lock
    [ "$(cat qemu.pid 2> /dev/null)" = "$mine" ] || exit # it was switched off
    # QEMU says why it ends, unless the reason is a reset that the guest asked for
    if [ "$code" = 0 ] && ! grep -aqE 'qemu_system_shutdown_request|terminating on signal' "qemu-$count.log"; then
      stamp "restart $count"
      start
    else
      rm -f qemu.pid
      stamp "off $count"
    fi
  ) > "qemu-$count.log" 2>&1 < /dev/null &
  until [ -s qemu.pid ]; do sleep 0.02; done
}

power_off() {
  local pid tries=0
  running || return
  pid=$(cat qemu.pid)
  kill "$pid"
  while kill -0 "$pid" && [ "$tries" -lt 200 ]; do
    tries=$((tries + 1))
    if [ "$tries" = 100 ]; then kill -9 "$pid"; fi
    sleep 0.05
  done 2> /dev/null
  rm -f qemu.pid
  stamp "off $(cat count)"
}

shift # the management controller's address
operation=$1
shift
case $operation in
  get)
    while [ $# -gt 0 ]; do
      value=0
      case $1 in
        power) running && value=1 ;;
        boot) value=$(cat bootdev 2> /dev/null || echo none) ;;
      esac
      echo "$1:$value"
      shift
    done
    ;;
  set)
    lock
    while [ $# -gt 0 ]; do
      case $1 in
        power) if [ "$2" = 1 ]; then power_on; else power_off; fi ;;
        reset) power_off; power_on ;;
        shutdown) power_off ;; # the images have nothing that hears an ACPI button
        boot) stamp "bootdev $2"; if [ "$2" = none ]; then rm -f bootdev; else echo "$2" > bootdev; fi ;;
      esac
      shift 2
    done
    ;;
esac
exit 0
