// Seeded random numbers (xoshiro256++ of Blackman and Vigna, 2019): the same seed gives the same run on every
// machine.
#pragma once
#include <stdint.h>

struct takt_random {
        uint64_t s[4];
};

// Any seed is good, 0 included (expanded by splitmix64).
void takt_random_seed(struct takt_random *random, uint64_t seed);
// Uniform over all 64-bit numbers.
uint64_t takt_random_next(struct takt_random *random);
// Uniform in [0, 1).
double takt_random_unit(struct takt_random *random);
// Uniform in [low, high], both included; low <= high.
uint64_t takt_random_range(struct takt_random *random, uint64_t low, uint64_t high);
