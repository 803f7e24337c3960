#!/bin/sh
# Counts an order in the database now and then and tells the web server by a shared volume.
echo "worker starts"
while :; do
    if redis-cli -h database incr orders > /orders/next 2>&1; then
        mv /orders/next /orders/count
        echo "order $(cat /orders/count)"
    else
        echo "no database" >&2
    fi
    sleep 0.1
done
