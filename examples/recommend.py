"""Recommendations with plain tritonclient: recommend.py [USER] [HOST:PORT]"""

import sys

import numpy as np
import tritonclient.grpc as triton

user, address = [*sys.argv[1:], *["196", "127.0.0.1:8000"][len(sys.argv) - 1 :]]
user_id = triton.InferInput("user_id", [1], "BYTES")
user_id.set_data_from_numpy(np.array([user], dtype=object))
with triton.InferenceServerClient(address) as client:
    answer = client.infer("recommend", [user_id], client_timeout=2.0)
item_ids, scores = answer.as_numpy("item_ids")[0], answer.as_numpy("scores")[0]
for item, score in zip(item_ids[:10], scores[:10], strict=True):
    print(item.decode(), score)
