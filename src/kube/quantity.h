// Amounts as Kubernetes writes them ("40", "8Gi", "1500m").
//
// After "Quantity" of k8s.io/apimachinery.
#pragma once
#include <stdint.h>

// Rounded up to a whole number. Returns 0, or -EINVAL: no such amount, or one of 2^60 or more.
int quantity_parse(const char *text, uint64_t *ret);
// As the API server would write a number of bytes itself, so that it comes back the same.
void quantity_print(char to[24], uint64_t bytes);
