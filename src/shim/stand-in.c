// Empty on purpose: only its name counts, at link time.
typedef int takt_stand_in;
