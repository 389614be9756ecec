#!/bin/bash
# Runs a program behind the door: a folder with the shim, and beside it a link to the driver. door.sh SHIM DRIVER PROGRAM...
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder" "/dev/shm/$SIMGPU_NAME"' EXIT
export SIMGPU_NAME=simgpu-door-$$
cp "$1" "$folder/libcuda.so.1"
ln -s "$(realpath "$2")" "$folder/libcuda-driver.so.1"
shift 2
LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@"
