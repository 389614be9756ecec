// The folder of shims that containers mount.
#pragma once
#include "kube/recipe.h"

// Makes injection->lib ("": DIR/lib) from the libraries in `shims` ("": where they are beside this program),
// or says why it cannot, and leaves it "".
void libdir_make(const char *dir, const char *shims, struct injection *injection);
