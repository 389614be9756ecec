// The slots as devices of the Container Device Interface, for runtimes that know it.
//
// One file names all slots: they are the same for as long as the configuration is. After the CDI
// specification 0.5.
#pragma once
#include "kube/recipe.h"

#define CDI_KIND "takt.dev/slot"

// "takt.dev/slot=NAME".
void cdi_name(const struct slot *slot, char *ret, size_t size);
// Writes the file, whole or not at all. Returns 0 or a negative errno.
int cdi_write(const struct slots *slots, const struct injection *injection);
