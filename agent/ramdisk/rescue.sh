# Read by init once rescue.finalize_rescue has set the password and the agent is gone. Until then nothing in this
# ramdisk asks anybody for a name.
say "rescue: log in as rescue"
$bb --install -s
# mount without -t tries what the kernel knows already
$bb modprobe -a -b -q ext4 vfat nls_cp437 nls_ascii xfs btrfs isofs 2>/dev/null
printf 'Ferric rescue on \\l\n\n' > /etc/issue

# every console of the kernel line, the serial ones too
for t in $($bb cat /sys/class/tty/console/active); do
  [ $t = tty0 ] && t=tty1
  [ -c /dev/$t ] || continue
  case $t in tty[0-9]*) term=linux;; *) term=vt102;; esac
  while :; do $bb getty -L 0 $t $term; $bb sleep 1; done &
done
if [ -x /usr/sbin/dropbear ]; then
  $bb mkdir -p /etc/dropbear
  dropbear -R && say "rescue: ssh"
fi

# The node's ports move to the tenant's network about now, sooner or later, with or without a flap of the cable: every
# card asks for an address again, at first more often than a lease would have it.
fresh() {
  $bb ip link set $1 up
  [ -s /run/udhcpc.$1.pid ] && $bb kill $($bb cat /run/udhcpc.$1.pid) 2>/dev/null
  $bb udhcpc -i $1 -p /run/udhcpc.$1.pid -b -t 5 -T 2 -A 20 -s /etc/udhcpc.sh >/dev/null 2>&1
}
{
  n=0
  while :; do
    for d in /sys/class/net/*; do
      c=${d##*/}; [ -e $d/device ] || continue
      now=$($bb cat $d/carrier 2>/dev/null); old=$($bb cat /run/carrier.$c 2>/dev/null)
      echo "$now" > /run/carrier.$c
      case $n in 0|3|9|27) fresh $c;; *) [ "$now" = 1 ] && [ "$old" != 1 ] && fresh $c;; esac
    done
    n=$((n+1)); $bb sleep 5
  done
} &

# what reboot, poweroff and halt send to process 1
trap '$bb sync; $bb reboot -f' TERM
trap '$bb sync; $bb poweroff -f' USR1 USR2
while :; do $bb sleep 3600 & wait $!; done
