#!/bin/sh
# What busybox' DHCP client calls with what it was told.
case $1 in
bound | renew)
  ip address replace "$ip/${mask:-24}" dev "$interface"
  for gateway in $router; do
    ip route replace default via "$gateway" dev "$interface"
    break
  done
  echo "${tftp:-${siaddr:-$serverid}}" > /run/server
  ;;
esac
exit 0
