// What the subcommands share: parsing of units, and a conversation with the daemon.
#pragma once
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

// Exit codes, as sysexits(3) has them.
enum {
        EXIT_USAGE = 2,
        EXIT_NOT_THERE = 69,
        EXIT_NOT_WRITTEN = 74,
        EXIT_REFUSED = 75,
        EXIT_NOT_EXECUTABLE = 126,
        EXIT_NOT_FOUND = 127,
        EXIT_INTERRUPTED = 130
};

int cmd_run(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_advise(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_load(int argc, char **argv);

// A plain number in [low, high]. 0, or -EINVAL.
int cli_count(const char *text, uint64_t low, uint64_t high, uint64_t *ret);

// What getopt_long returned (its optstring begins with ':', opterr is 0), and what taking the value did: says
// what is wrong and returns EXIT_USAGE, or 0.
int cli_wrong_option(int option, int error, char **argv);

#define CLI_SYSTEM_DIR "/run/takt"

// The folder of the daemon's sockets: TAKT_DIR, or the system's if it runs, or the user's own.
const char *cli_dir(void);
// Connects to the control socket. Returns a descriptor or a negative errno; -EPERM: a daemon of another
// user's, who is not root. Neither this nor cli_ask waits longer than CLI_PATIENCE_S for a daemon that hangs.
#define CLI_PATIENCE_S 5
int cli_connect(const char *dir);
// Sends a request and reads the answer (a new reference; NULL when the daemon has gone). Takes over
// `request`.
json_t *cli_ask(int fd, json_t *request);
// One line on stderr, "takt: " before it; returns `code`.
int cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The folder of takt's own executable.
const char *cli_home(void);
