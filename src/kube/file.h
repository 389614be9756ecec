// Small files of our own, read and written whole.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Writes FOLDER/NAME, whole or not at all, and to the disk; not if it has that text already. Returns 0 or a
// negative errno.
int file_write_whole(const char *folder, const char *name, const char *text);
// Reads a file of fewer than `size` bytes, and ends the text with a zero. Returns how many, -EFBIG or another
// negative errno.
int file_read_whole(const char *path, char *ret_text, size_t size);
// How many entries a folder has, hidden ones left out; 0: none, or there is no such folder.
uint32_t file_count(const char *dir);
// Removes a folder of files and empty folders. Nothing is said of what stays.
void file_remove_folder(const char *dir);
