// Amounts as people write them, with their unit.
#pragma once
#include <stdint.h>

// "200ms", "2s", "500us" in ns, an hour at most; "8GiB", "12Gi", "512MiB" in bytes; "40%" in parts per
// million. None takes 0. Return 0, or -EINVAL.
int takt_duration_parse(const char *text, uint64_t *ret_ns);
int takt_size_parse(const char *text, uint64_t *ret_bytes);
int takt_percent_parse(const char *text, uint32_t *ret_ppm);
