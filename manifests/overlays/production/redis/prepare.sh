#!/bin/sh
# Before Redis and Sentinel start in a pod: writes /data/redis.conf and /data/sentinel.conf.
# The master is the one that a running Sentinel names; else, where all start at once, the one that
# this pod's Sentinel knew last; else, the first time, redis-0.
set -eu
: "${POD_NAME:?}" "${DOMAIN:?}" "${REDIS_PASSWORD:?}"
self=$POD_NAME.$DOMAIN

ask() {
  for i in 0 1 2; do
    found=$(timeout 3 redis-cli -h "redis-$i.$DOMAIN" -p 26379 sentinel get-master-addr-by-name kuberec 2>/dev/null | head -n 1) || true
    case $found in *."$DOMAIN") echo "$found"; return ;; esac
  done
  sed -n 's/^sentinel monitor kuberec \([^ ]*\) .*/\1/p' /data/sentinel.conf 2>/dev/null || true
}

master=$(ask)
master=${master:-redis-0.$DOMAIN}
umask 077
{
  cat /etc/redis/redis.conf
  echo "requirepass $REDIS_PASSWORD"
  echo "masterauth $REDIS_PASSWORD"
  echo "replica-announce-ip $self"
  [ "$master" = "$self" ] || echo "replicaof $master 6379"
} >/data/redis.conf
# Kept over restarts: a Sentinel that came back with another id would be counted twice.
if [ -s /data/sentinel.conf ]; then
  sed -i "s|^sentinel auth-pass kuberec .*|sentinel auth-pass kuberec $REDIS_PASSWORD|" /data/sentinel.conf
else
  cat >/data/sentinel.conf <<EOF
port 26379
dir /tmp
protected-mode no
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $self
sentinel monitor kuberec $master 6379 2
sentinel auth-pass kuberec $REDIS_PASSWORD
sentinel down-after-milliseconds kuberec 5000
sentinel failover-timeout kuberec 30000
sentinel parallel-syncs kuberec 1
EOF
fi
echo "$self: the master is $master"
