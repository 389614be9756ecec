// The folder of shims that containers mount.
#pragma once
#include "kube/recipe.h"

// Makes DIR/lib from the libraries in `shims` ("": where they are beside this program) and names it in
// injection->lib, or says that there are none.
void libdir_make(const char *dir, const char *shims, struct injection *injection);
