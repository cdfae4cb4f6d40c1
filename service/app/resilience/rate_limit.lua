-- A token bucket, shared by all replicas (FM06, docs/adr/0036).
--
-- Whole numbers only, all below 2^53, so a double holds them exactly. One token is 60,000,000 units, and a rate of r
-- tokens a minute is r units a microsecond.
--
-- KEYS[1]  the bucket: "level steady wall", in units, microseconds, microseconds
-- ARGV     rate per minute, burst, serial number of the call, and what the replica remembers of this bucket:
--          its level then, and the bucket's time now. Both are "" when it remembers nothing.
-- Returns  serial, 1 when a token was taken, microseconds until one is there, level, the bucket's time
--
-- Each bucket has a time of its own that only runs forward. It follows the server's clock, until the replica's
-- monotonic clock shows that the server's was set: then it follows the replica. So a clock set back locks nobody out,
-- and one set forward gives nobody tokens.

local TOKEN = 60000000
local STEP = 250000   -- two clocks that differ by less differ by latency; a call may take 100 ms

local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local known_level, known_now = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local wall = time[1] * 1000000 + time[2]
local capacity = burst * TOKEN

local level, steady, before
local stored = redis.call('GET', KEYS[1])
if stored then
  level, steady, before = string.match(stored, '^(%d+) (%d+) (%d+)$')
  level, steady, before = tonumber(level), tonumber(steady), tonumber(before)
else
  -- Never seen, full again long ago, or lost with the server's memory: a replica that knows better is believed.
  level, steady, before = known_level or capacity, known_now or wall, wall
end

local now = steady + wall - before
if known_now and (wall < before or math.abs(now - known_now) > STEP) then
  now = known_now
end
now = math.max(steady, now)

local elapsed = math.min(now - steady, math.ceil(capacity / rate))   -- longer fills it no further
level = math.min(capacity, level + elapsed * rate)
local taken = 0
local wait = math.max(0, math.ceil((TOKEN - level) / rate))
if level >= TOKEN then
  level, taken, wait = level - TOKEN, 1, 0
end

-- A full bucket is as good as none, so it may go. A clock set forward would let it go early: an hour is kept for that.
local kept = math.ceil((capacity - level) / rate / 1000) + 3601000
redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', level, now, wall), 'PX', string.format('%.0f', kept))
return {ARGV[3], taken, string.format('%.0f', wait), string.format('%.0f', level), string.format('%.0f', now)}
