-- Print wrk's figures on one machine-readable line.
function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      'REPORT {"requests":%d,"bytes":%.0f,"seconds":%.6f,"p50_ms":%.4f,"p99_ms":%.4f,' ..
      '"bad_status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
      summary.requests, summary.bytes, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
