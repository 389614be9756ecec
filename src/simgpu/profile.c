#include "simgpu/profile.h"
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "simgpu/settings.h"

#define SETTINGS_MAX 32

static char *settings[SETTINGS_MAX]; // each "KEY=VALUE"
static int n_settings;
static char refused[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

// line 0: of the whole file.
static void refuse(const char *path, int line, const char *why, const char *what)
{
        char text[sizeof refused], where[32] = "";

        if (line)
                snprintf(where, sizeof where, "line %d: ", line);
        snprintf(text, sizeof text, "%.100s: %s%s%.80s", path, where, why, what);
        fprintf(stderr, "simgpu: %s\n", text);
        if (!*refused)
                memcpy(refused, text, sizeof refused);
}

// `text` has one "=" at least.
static int is_known(const char *text)
{
        char name[64];

        snprintf(name, sizeof name, "%.*s", (int)strcspn(text, "="), text);
        return sim_settings_has(name);
}

static void add(const char *path, int line, char *text)
{
        size_t n = strlen(text);

        while (n && isspace((unsigned char)text[n - 1]))
                text[--n] = 0;
        if (!n || text[0] == '#')
                return;
        if (strncmp(text, "SIMGPU_", 7) || !strchr(text, '='))
                refuse(path, line, "not SIMGPU_NAME=VALUE: ", text);
        else if (!is_known(text))
                refuse(path, line, "no setting of a profile: ", text);
        else if (n_settings == SETTINGS_MAX)
                refuse(path, line, "too many settings", "");
        else
                settings[n_settings++] = strdup(text);
}

static void load(void)
{
        const char *path = getenv("SIMGPU_PROFILE");
        FILE *file = path && *path ? fopen(path, "re") : NULL;
        char text[512];

        if (!file && path && *path)
                refuse(path, 0, strerror(errno), "");
        for (int line = 1; file && fgets(text, sizeof text, file); line++)
                add(path, line, text);
        if (file)
                fclose(file);
}

const char *sim_setting(const char *name)
{
        const char *value = getenv(name);
        size_t n = strlen(name);

        if (value)
                return value;
        pthread_once(&once, load);
        for (int i = 0; i < n_settings; i++)
                if (!strncmp(settings[i], name, n) && settings[i][n] == '=')
                        return settings[i] + n + 1;
        return NULL;
}

const char *sim_profile_refused(void)
{
        pthread_once(&once, load);
        return refused;
}
