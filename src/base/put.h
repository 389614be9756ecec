// Files put in place in one go: who looks meanwhile finds the old one or the new one, and a program that runs
// keeps what it has mapped. Beside the place, "PLACE.new" is ours.
#pragma once

// The file at `from`, for everybody to read and run, copied to `to`. Returns 0 or a negative errno; then what
// was at `to` is as before.
int takt_put_copy(const char *from, const char *to);
// A link to `target`, which need not be there, at `to`. The same.
int takt_put_link(const char *target, const char *to);
// Whether no program or library in the folder can be run: its file system is mounted noexec.
int takt_put_is_noexec(const char *dir);
