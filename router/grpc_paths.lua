-- Reads which model a gRPC message asks for and turns the path into the one that the REST call has, which is routed
-- as usual: docs/decisions/0009. Runs for the routes of router/rpc.py only.
--
-- A path is put together of constants and of names that passed the rules below, never of what a caller wrote. A name that is
-- not legal becomes one that nothing can have, so that it is answered like everything else that is not there.
-- REQUEST_MS and GRACE_MS, the longest a caller may wait and what Envoy waits beyond that, stand in front of this text.

local NOBODY = "-"        -- no model, no label
local NO_VERSION = "9999999999999999999"  -- more than any version can be
local LONGEST_NAME = 63
local FRAME = 5           -- bytes before a gRPC message: compressed or not, and its length
local MOST_FIELDS = 4096  -- looked at per message; what has more is an attack on the time of this thread
local WINDOW = 256        -- bytes fetched at once

local ZERO_MESSAGES = "expected one message of the method's request type, got none"
local TWO_MESSAGES = "expected exactly one message"
local COMPRESSED = "compressed messages are not read here: send them with grpc-encoding identity"
local MALFORMED = "the message is not valid protobuf, or has more than " .. MOST_FIELDS .. " fields"
local NAMELESS = "the message names no model: set model_spec.name, or the model_name of an inference request"
local BAD_TIMEOUT = "grpc-timeout is not usable: expected 1 to 8 digits and one of H, M, S, m, u, n"
local BAD_INDEX = 'expected an empty body, {} or {"ready": true}'

-- Thrown by `refuse`, answered by envoy_on_request.
local function refuse(status, sentence)
  error({status = status, sentence = sentence}, 0)
end

-- A function from an offset, counted from 0, to the byte there.
local function bytes_of(body)
  local first, text = 0, ""
  return function(at)
    if at < first or at >= first + #text then
      first, text = at, body:getBytes(at, math.min(WINDOW, body:length() - at))
    end
    return text:byte(at - first + 1)
  end
end

-- The varint at `at` and the offset behind it. Exact up to 2^53, which is all that tags and lengths need.
local function varint(byte, at, stop)
  local value, scale = 0, 1
  for offset = at, math.min(at + 10, stop) - 1 do
    local b = byte(offset)
    value = value + b % 128 * scale
    if b < 128 then return value, offset + 1 end
    scale = scale * 128
  end
  refuse("400", MALFORMED)
end

-- Calls visit(field number, from, to) for each field of one wire type of the message in [at, stop). All others are
-- skipped by their length, so a big tensor costs no more than a small one. All fields are seen, because they may stand
-- in any order and the last of the same number counts.
local NUMBER, TEXT = 0, 2
local fields_left = 0  -- of the message being read: nothing yields between `target` and the end of its walks

local function walk(byte, at, stop, wanted, visit)
  while at < stop do
    fields_left = fields_left - 1
    if fields_left < 0 then refuse("400", MALFORMED) end
    local tag, from = varint(byte, at, stop)
    local wire, to = tag % 8, nil
    if wire == NUMBER then
      _, to = varint(byte, from, stop)
    elseif wire == 1 then
      to = from + 8
    elseif wire == TEXT then
      to, from = varint(byte, from, stop)
      to = from + to
    elseif wire == 5 then
      to = from + 4
    end
    if tag < 8 or to == nil or to > stop then refuse("400", MALFORMED) end
    if wire == wanted then visit((tag - wire) / 8, from, to) end
    at = to
  end
end

-- An int64 varint in [from, to) as decimal digits; digits of no version if it is negative or 0.
local function version_number(byte, from, to)
  local high, low = 0, 0  -- high * 10^9 + low: a double alone holds 53 bits
  for at = to - 1, from, -1 do
    low = low * 128 + byte(at) % 128
    high = high * 128 + math.floor(low / 1e9)
    low = low % 1e9
  end
  if high + low == 0 or high > 9223372036 or (high == 9223372036 and low > 854775807) then return NO_VERSION end
  return high > 0 and string.format("%.0f%09.0f", high, low) or string.format("%.0f", low)
end

-- The text in [from, to), or what nobody is called when it is longer than any name.
local function text_of(body, from, to)
  if to == from then return nil end
  return to - from > LONGEST_NAME and NOBODY or body:getBytes(from, to - from)
end

-- The three kinds of names, as contracts/names.py has them.
local function legal_model(name)
  return name:find("^[A-Za-z0-9_][A-Za-z0-9._-]*$") and not name:find("..", 1, true) and name or NOBODY
end

local function legal_label(name)
  return name:find("^[A-Za-z_][A-Za-z0-9_-]*$") and name or NOBODY
end

local function legal_version(text)
  return text:find("^[0-9]+$") and #text <= 19 and text or NO_VERSION
end

-- tensorflow.serving.ModelSpec: name 1, version 2 {value 1}, version_label 4; of the last two the later one counts.
local function read_spec(body, byte, from, to, asked)
  walk(byte, from, to, TEXT, function(field, at, stop)
    if field == 1 then
      asked.name = text_of(body, at, stop)
    elseif field == 2 then
      asked.version, asked.label = NO_VERSION, nil
      walk(byte, at, stop, NUMBER, function(inner, first, last)
        if inner == 1 then asked.version = version_number(byte, first, last) end
      end)
    elseif field == 4 then
      asked.version, asked.label = nil, text_of(body, at, stop)
    end
  end)
end

-- Where the methods' requests hold their model. Each reads the message in [from, to) into `asked`.

local function spec_in_field_1(body, byte, from, to, asked)
  walk(byte, from, to, TEXT, function(field, at, stop)
    if field == 1 then read_spec(body, byte, at, stop, asked) end
  end)
end

local function spec_of_the_first_task(body, byte, from, to, asked)
  local found = false
  walk(byte, from, to, TEXT, function(field, at, stop)
    if field == 1 and not found then
      found = true
      spec_in_field_1(body, byte, at, stop, asked)
    end
  end)
end

local function name_and_version(body, byte, from, to, asked)
  walk(byte, from, to, TEXT, function(field, at, stop)
    if field == 1 then asked.name = text_of(body, at, stop) end
    if field == 2 then asked.version = text_of(body, at, stop) end
  end)
end

local function model_path(read, prefix, suffix)
  return function(body, byte, from, to)
    local asked = {}
    read(body, byte, from, to, asked)
    if asked.name == nil then refuse("400", NAMELESS) end
    local path = prefix .. legal_model(asked.name)
    if asked.version then path = path .. "/versions/" .. legal_version(asked.version) end
    if asked.label then path = path .. "/labels/" .. legal_label(asked.label) end
    return path .. suffix
  end
end

-- grpc.health.v1.HealthCheckRequest: service 1.
local HEALTHY = {
  [""] = true,
  ["tensorflow.serving.PredictionService"] = true,
  ["tensorflow.serving.ModelService"] = true,
  ["inference.GRPCInferenceService"] = true,
  ["grpc.health.v1.Health"] = true,
}

local function health_path(body, byte, from, to)
  local service = ""
  walk(byte, from, to, TEXT, function(field, at, stop)
    if field == 1 then service = text_of(body, at, stop) or "" end
  end)
  if not HEALTHY[service] then refuse("404", "no such service is served here") end
  return "/grpc.health.v1.Health/Check?service=known"
end

-- inference.RepositoryIndexRequest: ready 2.
local function index_path(body, byte, from, to)
  local ready = 0
  walk(byte, from, to, NUMBER, function(field, at)
    if field == 2 then ready = varint(byte, at, to) end
  end)
  return "/v2/repository/index?ready=" .. (ready ~= 0 and "true" or "false")
end

-- The same as JSON, for REST.
local function json_index_path(body)
  if body and body:length() > WINDOW then refuse("400", BAD_INDEX) end
  local text = body and body:getBytes(0, body:length()) or ""
  local inside = text:match("^%s*{%s*(.-)%s*}%s*$") or text:match("^%s*$")
  local ready = inside and (inside == "" and "false" or inside:match('^"ready"%s*:%s*(%l+)$'))
  if ready ~= "true" and ready ~= "false" then refuse("400", BAD_INDEX) end
  return "/v2/repository/index?ready=" .. ready
end

local PREDICTION, INFERENCE = "/tensorflow.serving.PredictionService/", "/inference.GRPCInferenceService/"
local PATHS = {
  [PREDICTION .. "Predict"] = model_path(spec_in_field_1, "/v1/models/", ":predict"),
  [PREDICTION .. "Classify"] = model_path(spec_in_field_1, "/v1/models/", ":classify"),
  [PREDICTION .. "Regress"] = model_path(spec_in_field_1, "/v1/models/", ":regress"),
  [PREDICTION .. "MultiInference"] = model_path(spec_of_the_first_task, "/v1/models/", ":multiinference"),
  [PREDICTION .. "GetModelMetadata"] = model_path(spec_in_field_1, "/v1/models/", "/metadata"),
  ["/tensorflow.serving.ModelService/GetModelStatus"] = model_path(spec_in_field_1, "/v1/models/", ""),
  [INFERENCE .. "ModelInfer"] = model_path(name_and_version, "/v2/models/", "/infer"),
  [INFERENCE .. "ModelReady"] = model_path(name_and_version, "/v2/models/", "/ready"),
  [INFERENCE .. "ModelMetadata"] = model_path(name_and_version, "/v2/models/", ""),
  [INFERENCE .. "RepositoryIndex"] = index_path,
  ["/grpc.health.v1.Health/Check"] = health_path,
}

local UNITS = {H = 3.6e6, M = 6e4, S = 1e3, m = 1, u = 1e-3, n = 1e-6}

-- How long Envoy waits, in milliseconds: a little longer than the caller, so that a worker's own words come first.
local function patience(timeout)
  local digits, unit = timeout:match("^(%d+)([HMSmun])$")
  if digits == nil or #digits > 8 then refuse("400", BAD_TIMEOUT) end
  return math.ceil(math.min(tonumber(digits) * UNITS[unit], REQUEST_MS)) + GRACE_MS
end

-- Where the message in the body, one frame, is to go.
local function target(path, body)
  if body == nil or body:length() < FRAME then refuse("400", ZERO_MESSAGES) end
  local byte, length = bytes_of(body), 0
  for at = 1, FRAME - 1 do length = length * 256 + byte(at) end
  if byte(0) ~= 0 then refuse("501", COMPRESSED) end
  if length ~= body:length() - FRAME then refuse("400", TWO_MESSAGES) end
  fields_left = MOST_FIELDS
  return PATHS[path](body, byte, FRAME, body:length())
end

-- A worker says with its HTTP status whose fault an error is, for Envoy's statistics; gRPC's own is in grpc-status.
function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get("grpc-status") then headers:replace(":status", "200") end
end

-- A path whose version begins with a zero: the same without it, or a version too large to exist if nothing is left.
local function renumbered(path)
  local before, number, after = path:match("^(/v1/models/[^/]*/versions/)0+(%d*)(.*)$")
  return before and before .. (number == "" and NO_VERSION or number) .. after
end

function envoy_on_request(handle)
  local whole = handle:headers():get(":path")
  local shorter = renumbered(whole)
  if shorter then
    handle:headers():replace(":path", shorter)
    handle:clearRouteCache()
    return
  end
  local path = whole:match("^[^?]*")
  local timeout = handle:headers():get("grpc-timeout")
  local body = handle:body()  -- returns when all of it is here
  local fine, result = pcall(function()
    if not PATHS[path] then return json_index_path(body) end
    local headers = handle:headers()  -- those from before body() are no longer valid
    if timeout then headers:replace("x-envoy-upstream-rq-timeout-ms", string.format("%d", patience(timeout))) end
    return target(path, body)
  end)
  if fine then
    handle:headers():replace(":path", result)
    handle:clearRouteCache()
  elseif type(result) == "table" then
    handle:respond({[":status"] = result.status}, result.sentence)
  else
    handle:logErr("grpc_paths.lua: " .. tostring(result))
    handle:respond({[":status"] = "500"}, "the gateway could not read the message")
  end
end
