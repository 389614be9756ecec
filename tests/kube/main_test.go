package kube

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"takt.dev/takt/tests/kube/reference"
	"takt.dev/takt/tests/kube/sandbox"
)

// asReference makes this program the reference plugin.
const asReference = "TAKT_KUBE_REFERENCE"

// skipped is the exit status of a suite that cannot run here, as automake's and meson's.
const skipped = 77

func TestMain(m *testing.M) {
	if os.Getenv(asReference) != "" {
		os.Exit(reference.Main(os.Args[1:]))
	}
	if !sandbox.Entered() {
		status, err := sandbox.Run()
		if errors.Is(err, sandbox.ErrNone) {
			fmt.Println("SKIP: the kubelet's cases:", err)
			status = skipped
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}
	if err := sandbox.Furnish(); err != nil {
		fmt.Println("SKIP: the kubelet's cases:", err)
		os.Exit(skipped)
	}
	os.Exit(m.Run())
}
