#include "base/random.h"

static uint64_t splitmix64(uint64_t *x)
{
        uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, int n)
{
        return (x << n) | (x >> (64 - n));
}

void takt_random_seed(struct takt_random *random, uint64_t seed)
{
        for (int i = 0; i < 4; i++)
                random->s[i] = splitmix64(&seed);
}

uint64_t takt_random_next(struct takt_random *random)
{
        uint64_t *s = random->s;
        uint64_t next = rotate_left(s[0] + s[3], 23) + s[0];
        uint64_t t = s[1] << 17;

        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotate_left(s[3], 45);
        return next;
}

double takt_random_unit(struct takt_random *random)
{
        return (double)(takt_random_next(random) >> 11) * 0x1.0p-53;
}

uint64_t takt_random_range(struct takt_random *random, uint64_t low, uint64_t high)
{
        uint64_t span = high - low + 1;

        // Multiply-shift (Lemire 2019); the bias is under 2^-32 for the spans used here.
        return span == 0 ? takt_random_next(random)
                         : low + (uint64_t)(((unsigned __int128)takt_random_next(random) * span) >> 64);
}
