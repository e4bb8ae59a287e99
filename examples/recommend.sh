#!/bin/sh
# Recommendations by curl: recommend.sh [USER] [HOST:PORT]
user=$(printf %s "${1:-196}" | sed 's/["\\]/\\&/g') # as JSON wants it within quotes
curl --silent --show-error --fail-with-body --max-time 2 \
    --header 'Content-Type: application/json' \
    "http://${2:-127.0.0.1:8000}/v2/models/recommend/infer" \
    --data '{"inputs": [{"name": "user_id", "datatype": "BYTES", "shape": [1], "data": ["'"$user"'"]},
                        {"name": "k", "datatype": "INT64", "shape": [1], "data": [5]}]}'
