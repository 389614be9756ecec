// Package reference is a device plugin as the kubelet wants it, in the shortest way: the double of `taktd --kube` that
// shows that the cases of this module can be met. It enforces nothing.
package reference

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"k8s.io/klog/v2"
)

// config is NVIDIA's file for time slices, as far as it is used here.
type config struct {
	Version string `json:"version"`
	Flags   struct {
		Plugin struct {
			SharedDevicesAllocationPolicy string `json:"sharedDevicesAllocationPolicy"`
		} `json:"plugin"`
	} `json:"flags"`
	Sharing struct {
		TimeSlicing struct {
			Resources []struct {
				Name     string `json:"name"`
				Rename   string `json:"rename"`
				Replicas int    `json:"replicas"`
			} `json:"resources"`
		} `json:"timeSlicing"`
	} `json:"sharing"`
}

// Main is the program: taktd's options, as far as they are used here.
func Main(args []string) int {
	klog.LogToStderr(true)
	options := make(map[string][]string)
	for i := 0; i+1 < len(args); i += 2 {
		options[args[i]] = append(options[args[i]], args[i+1])
	}
	plugin, err := fromOptions(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	if err := plugin.live(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		return 1
	}
	return 0
}

func fromOptions(options map[string][]string) (*plugin, error) {
	if len(options["--kube"]) != 1 || len(options["--dir"]) != 1 || len(options["--device"]) == 0 {
		return nil, errors.New("it needs --dir, --device and --kube")
	}
	text, err := os.ReadFile(options["--kube"][0])
	if err != nil {
		return nil, err
	}
	var c config
	if err := yaml.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	if len(c.Sharing.TimeSlicing.Resources) != 1 {
		return nil, errors.New("it needs one resource")
	}
	resource := c.Sharing.TimeSlicing.Resources[0]
	p := &plugin{
		dir:      options["--dir"][0],
		resource: resource.Name,
		packed:   c.Flags.Plugin.SharedDevicesAllocationPolicy == "packed",
		changed:  make(chan struct{}),
		lost:     make(map[string]bool),
	}
	if resource.Rename != "" {
		p.resource = resource.Rename
	}
	for _, device := range options["--device"] {
		gpu, _, _ := strings.Cut(device, ":")
		p.gpus = append(p.gpus, gpu)
		for i := range resource.Replicas {
			p.slots = append(p.slots, fmt.Sprintf("%s::%d", gpu, i))
		}
	}
	return p, nil
}
