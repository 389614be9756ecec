// A hash of bytes that is the same on every machine (FNV-1a). Not against somebody who looks for two of one
// value.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define TAKT_HASH_START UINT64_C(0xcbf29ce484222325)

// Goes on with n more bytes.
static inline uint64_t takt_hash(uint64_t hash, const void *bytes, size_t n)
{
        for (size_t i = 0; i < n; i++)
                hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
        return hash;
}
