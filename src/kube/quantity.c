#include "kube/quantity.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char binary[][3] = {"Ki", "Mi", "Gi", "Ti", "Pi"};

static int factor_of(const char *suffix, long double *ret)
{
        static const struct {
                const char *name;
                long double factor;
        } decimal[] = {{"", 1},     {"n", 1e-9L}, {"u", 1e-6L}, {"m", 1e-3L}, {"k", 1e3L},
                       {"M", 1e6L}, {"G", 1e9L},  {"T", 1e12L}, {"P", 1e15L}, {"E", 1e18L}};

        for (size_t i = 0; i < sizeof decimal / sizeof *decimal; i++)
                if (!strcmp(suffix, decimal[i].name))
                        return *ret = decimal[i].factor, 0;
        *ret = 1;
        for (size_t i = 0; i < sizeof binary / sizeof *binary; i++) {
                *ret *= 1024;
                if (!strcmp(suffix, binary[i]))
                        return 0;
        }
        return -EINVAL;
}

int quantity_parse(const char *text, uint64_t *ret)
{
        size_t n = strspn(text, "0123456789."), n_suffix = strlen(text + n);
        char digits[32];
        char *end;
        long double value, factor;
        long exponent = 0;

        if (n == 0 || n >= sizeof digits) // strtold would take "inf", "0x1" and " 1" too
                return -EINVAL;
        memcpy(digits, text, n);
        digits[n] = 0;
        value = strtold(digits, &end);
        if (*end || end == digits)
                return -EINVAL;
        factor = 1;
        if (n_suffix > 1 && (text[n] == 'e' || text[n] == 'E')) {
                exponent = strtol(text + n + 1, &end, 10);
                if (*end || exponent < -9 || exponent > 18)
                        return -EINVAL;
                for (; exponent > 0; exponent--)
                        factor *= 10;
                for (; exponent < 0; exponent++)
                        factor /= 10;
        } else if (factor_of(text + n, &factor) < 0) {
                return -EINVAL;
        }
        value *= factor;
        if (value >= (long double)(UINT64_C(1) << 60))
                return -EINVAL;
        *ret = (uint64_t)value;
        *ret += (long double)*ret < value;
        return 0;
}

void quantity_print(char to[24], uint64_t bytes)
{
        int unit = -1;

        while (bytes && bytes % 1024 == 0 && unit < 4) {
                bytes /= 1024;
                unit++;
        }
        snprintf(to, 24, "%lu%s", bytes, unit < 0 ? "" : binary[unit]);
}
