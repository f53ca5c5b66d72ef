#!/bin/busybox sh
bb=/bin/busybox
case $1 in
bound|renew)
  $bb ip addr replace $ip/${mask:-24} dev $interface
  for r in $router; do $bb ip route replace default via $r dev $interface; break; done
  : > /etc/resolv.conf
  [ -n "$domain" ] && echo "search $domain" >> /etc/resolv.conf
  for d in $dns; do echo "nameserver $d" >> /etc/resolv.conf; done
  ;;
esac
exit 0
