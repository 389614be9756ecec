// Ranges of addresses that the driver has given, and the device's memory behind them.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define NOWHERE UINT64_MAX

enum owner { OWNER_DEVICE, OWNER_HOST, OWNER_ADDRESS, OWNER_MANAGED };

// In a tree; a look-up by any address inside finds the range.
struct range {
        uintptr_t base;
        size_t size, charged;
        enum owner owner;
        int device;
        uint64_t offset; // in the device's pool; NOWHERE: memory of the process's own
};

int memory_find(const void *pointer, struct range *ret);
// So much of the device's memory for this process, and where in the pool if it lies there (else NOWHERE).
int memory_charge(int device, uint64_t bytes, uint64_t *ret_offset);
void memory_give_back(int device, uint64_t bytes, uint64_t offset);
// The device that properties of an allocation or a pool name; of memory elsewhere the first one.
int memory_place(const int *props);
// A range of `size` bytes, of which `charged` (0 or all) are the device's.
int memory_add(void **ret, int device, size_t size, size_t charged, enum owner owner);
int memory_remove(void *pointer);
