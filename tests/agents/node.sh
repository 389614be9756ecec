#!/bin/sh
# Runs a test with the Node.js that script/fetch keeps, or the machine's own; without one of this century's it is skipped.
for node in "$TAKT_CACHE/node" node; do
        if "$node" --eval 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' 2>/dev/null; then
                exec "$node" --test --test-reporter=spec "$@"
        fi
done
echo "no Node.js of version 20 or later" >&2
exit 77
