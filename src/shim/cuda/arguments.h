// How a hooked call of n words takes its arguments (P##n), passes them on (A##n), and looks at one
// (ARGUMENT##k).
#pragma once
#include <stdint.h>

#define P0 void
#define P1 uintptr_t a0
#define P2 P1, uintptr_t a1
#define P3 P2, uintptr_t a2
#define P4 P3, uintptr_t a3
#define P5 P4, uintptr_t a4
#define P6 P5, uintptr_t a5
#define A0
#define A1 a0
#define A2 A1, a1
#define A3 A2, a2
#define A4 A3, a3
#define A5 A4, a4
#define A6 A5, a5
#define P7 P6, uintptr_t a6
#define A7 A6, a6
#define ARGUMENT0 a0
#define ARGUMENT1 a1
#define ARGUMENT2 a2
#define ARGUMENT3 a3
#define ARGUMENT4 a4
#define ARGUMENT5 a5

#ifdef __x86_64__
// Behind the sixth they lie on the stack. Taken one by one, the compiler loads and stores each on the way to
// the driver, 4 ns a launch; taken as one object, which has the same layout there, it jumps and leaves them
// alone (but two, which it takes apart all the same).
struct stacked8 {
        uintptr_t a6, a7;
};
struct stacked9 {
        uintptr_t a6, a7, a8;
};
struct stacked10 {
        uintptr_t a6, a7, a8, a9;
};
struct stacked11 {
        uintptr_t a6, a7, a8, a9, a10;
};
#define P8 P6, struct stacked8 stacked
#define P9 P6, struct stacked9 stacked
#define P10 P6, struct stacked10 stacked
#define P11 P6, struct stacked11 stacked
#define A8 A6, stacked
#define A9 A6, stacked
#define A10 A6, stacked
#define A11 A6, stacked
#define ARGUMENT7 stacked.a7
#define ARGUMENT8 stacked.a8
#else
#define P8 P7, uintptr_t a7
#define P9 P8, uintptr_t a8
#define P10 P9, uintptr_t a9
#define P11 P10, uintptr_t a10
#define A8 A7, a7
#define A9 A8, a8
#define A10 A9, a9
#define A11 A10, a10
#define ARGUMENT7 a7
#define ARGUMENT8 a8
#endif
