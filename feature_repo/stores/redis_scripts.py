"""What runs inside Redis: scripts that look at a row and write it, and nothing comes between.

A server runs one script at a time. Bytes that scripts compare are made here too.
"""

import hashlib
from collections.abc import Sequence

# A row is replaced if it is what was read: the hash over its fields says so.
# KEYS: row. ARGV: hash, seconds to live or 0, number of fields read, these, then field, value, …;
# without values the fields that were read are deleted.
CHANGE = """
local n = tonumber(ARGV[3])
local fields = {}
for i = 1, n do fields[i] = ARGV[3 + i] end
local parts = {}
for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(fields))) do
  parts[i] = value and ('+' .. #value .. ':' .. value) or '-'
end
if redis.sha1hex(table.concat(parts)) ~= ARGV[1] then return 0 end
if #ARGV == 3 + n then redis.call('HDEL', KEYS[1], unpack(fields)) return 1 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4 + n))
if ARGV[2] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return 1
"""
# Rows are written where there is none, or its event time (a protobuf Timestamp: 0x08, then seconds
# as a varint) is before a second. KEYS: rows, and where that is possible the mark. ARGV: token or
# '', that second or '', seconds to live or 0, number of rows, number of fields, these, the time's
# first, then each row's values.
PUT = """
local rows, n = tonumber(ARGV[4]), tonumber(ARGV[5])
if #KEYS > rows and redis.call('HGET', KEYS[rows + 1], 'token') ~= ARGV[1] then return {-1} end
local function before(stored)
  if ARGV[2] == '' then return false end
  local seconds = 0
  if string.byte(stored, 1) == 8 then
    local scale, place = 1, 2
    repeat
      local byte = string.byte(stored, place)
      seconds = seconds + (byte % 128) * scale
      scale, place = scale * 128, place + 1
    until byte < 128
    if place > 11 then seconds = -1 end
  end
  return seconds < tonumber(ARGV[2])
end
local written, pairs_of_row = {}, {}
for field = 1, n do pairs_of_row[2 * field - 1] = ARGV[5 + field] end
for row = 1, rows do
  local stored = redis.call('HGET', KEYS[row], ARGV[6])
  written[row] = (not stored or before(stored)) and 1 or 0
  if written[row] == 1 then
    local start = 5 + n * row
    for field = 1, n do pairs_of_row[2 * field] = ARGV[start + field] end
    redis.call('HSET', KEYS[row], unpack(pairs_of_row))
    if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[row], ARGV[3]) end
  end
end
return written
"""
MARK = """
if ARGV[3] ~= '' and redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'content', ARGV[2])
return 1
"""
# Notes go that are as they were read. KEYS: notes. ARGV: id, note, …
SETTLE = """
for i = 1, #ARGV, 2 do
  local note = redis.call('HGET', KEYS[1], ARGV[i])
  if note == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 1
"""


def timestamp_bytes(us: int) -> bytes:
    """A google.protobuf.Timestamp of microseconds since 1970."""
    from google.protobuf.timestamp_pb2 import Timestamp

    seconds, rest = divmod(us, 1_000_000)
    return bytes(Timestamp(seconds=seconds, nanos=rest * 1000).SerializeToString())


def digest(stored: Sequence[bytes | None]) -> str:
    """As the script has it."""
    parts = (b"-" if raw is None else b"+%d:%b" % (len(raw), raw) for raw in stored)
    return hashlib.sha1(b"".join(parts), usedforsecurity=False).hexdigest()


def escape(raw: bytes) -> bytes:
    """Bytes that a pattern of SCAN is to take as they are."""
    return b"".join(b"\\" + bytes([each]) if each in b"*?[]\\^-" else bytes([each]) for each in raw)
