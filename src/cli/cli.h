// What the subcommands share: their options, the parts of Takt, and a conversation with the daemon.
#pragma once
#include <getopt.h>
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

// The next option, as getopt_long returns it; -1: there is none before the next other word.
int cli_option(int argc, char **argv, const struct option *options);
// What that returned, and what taking the value did: says what is wrong and returns EXIT_USAGE, or 0.
int cli_wrong_option(int option, int error, char **argv);
// Of a command that has --help and perhaps one flag. -1, or the exit code once help, or what is wrong, is
// printed.
int cli_no_options(int argc, char **argv, const char *flag, const char *about);

#define CLI_SYSTEM_DIR "/run/takt"

// The folder of the daemon's sockets: TAKT_DIR, or the system's if it runs, or the user's own. NULL: TAKT_DIR
// is none, as was said.
const char *cli_dir(void);
// Connects to the control socket. Returns a descriptor or a negative errno; -EPERM: a daemon of another
// user's, who is not root. Neither this nor cli_ask waits longer than CLI_PATIENCE_S for a daemon that hangs.
#define CLI_PATIENCE_S 5
int cli_connect(const char *dir);
// Sends a request and reads the answer (a new reference; NULL when the daemon has gone). Takes over
// `request`.
json_t *cli_ask(int fd, json_t *request);
// A daemon that ends in order takes its control socket along.
int cli_has_socket(const char *dir);
// What it says of itself and its tenants (a new reference); or NULL, and why: -ETIMEDOUT: it does not answer;
// else as cli_connect.
json_t *cli_status(const char *dir, int *ret_error);
// The same of the daemon that cli_dir names; NULL: *ret_code, once it is said why there is none.
json_t *cli_status_or_say(int *ret_code);
// Why no daemon answers, and what to do; said by the second, which returns the exit code.
const char *cli_no_daemon(const char *dir, int error);
int cli_fail_no_daemon(const char *dir, int error);
// One line on stderr, "takt: " before it; returns `code`.
int cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The parts of Takt beside this program, as it was built or as it was installed. What is in neither place is
// named where it would be installed.
enum cli_part {
        CLI_TAKTD, // the daemon
        CLI_SHIMS, // the folder of the libraries for the agents
        CLI_LOAD,  // what speaks HTTP
};
void cli_find(enum cli_part part, char *path, size_t size);
