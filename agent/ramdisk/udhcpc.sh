#!/bin/busybox sh
bb=/bin/busybox
case $1 in
bound|renew)
  $bb ip addr replace $ip/${mask:-24} dev $interface
  # the network behind a card may have become another one
  for a in $($bb ip -4 -o addr show dev $interface | $bb awk '{print $4}'); do
    [ "${a%/*}" = "$ip" ] || $bb ip addr del $a dev $interface
  done
  [ -n "$ONLY_ADDRESS" ] && exit 0
  [ -n "$hostname" ] && $bb hostname "$hostname"
  metric=$((100 + $($bb cat /sys/class/net/$interface/ifindex)))
  for r in $router; do $bb ip route replace default via $r dev $interface metric $metric; break; done
  : > /etc/resolv.conf
  [ -n "$domain" ] && echo "search $domain" >> /etc/resolv.conf
  for d in $dns; do echo "nameserver $d" >> /etc/resolv.conf; done
  ;;
esac
exit 0
