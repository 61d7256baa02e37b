package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"wanderfs/fs"
)

func umountCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "umount [MOUNTPOINT]",
		Short: "Unmount a drive, also a dead one; say who holds it",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			at, err := mountpoint(args)
			if err != nil {
				return err
			}
			return explainMount("umount", fs.Unmount(at))
		},
	}
}

// explainMount adds what a mount error says can be done.
func explainMount(what string, err error) error {
	if err == nil {
		return nil
	}
	var m *fs.MountError
	hint := ""
	if errors.As(err, &m) {
		hint = m.Hint
	}
	err = fmt.Errorf("%s: %w", what, err)
	if hint == "" {
		return err
	}
	return withHint(err, hint)
}
