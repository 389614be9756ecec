// Small files of our own, read and written whole.
#pragma once
#include <stddef.h>

// Writes FOLDER/NAME, whole or not at all, and to the disk; not if it has that text already. Returns 0 or a
// negative errno.
int file_write_whole(const char *folder, const char *name, const char *text);
// Reads a file of fewer than `size` bytes, and ends the text with a zero. Returns how many, -EFBIG or another
// negative errno.
int file_read_whole(const char *path, char *ret_text, size_t size);
// Removes a folder of files and empty folders. Nothing is said of what stays.
void file_remove_folder(const char *dir);
