// Names and words of others: whether Kubernetes allows them, and what of them may be printed.
#pragma once

int names_is_label(const char *text);     // a namespace's, a container's
int names_is_subdomain(const char *text); // a pod's, a node's, a claim's
int names_is_uid(const char *text);
// What is no plain letter could end a line, or no text: it becomes a question mark.
void names_make_plain(char *text);
