package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"wanderfs/cache/chunk"
)

func hashCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash PATH...",
		Short: "Print the CIDs that publishing would give; touches no network",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range args {
				e, err := hashPath(c.Context(), name)
				if err != nil {
					return fmt.Errorf("hash: %w", err)
				}
				fmt.Fprintln(c.OutOrStdout(), e.Ref.Name(), name)
			}
			return nil
		},
	}
}

// hashPath computes what publishing the file or folder at name would give.
func hashPath(ctx context.Context, name string) (chunk.Entry, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return chunk.Entry{}, err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return chunk.Entry{}, err
	}
	if info.Mode().IsRegular() {
		f, err := os.Open(abs)
		if err != nil {
			return chunk.Entry{}, err
		}
		defer f.Close()
		return chunk.ImportFile(ctx, f, info.Size(), nil)
	}
	if !info.IsDir() {
		return chunk.Entry{}, fmt.Errorf("%s is neither a file nor a folder", name)
	}
	return chunk.ImportTree(ctx, os.DirFS(abs), ".", nil)
}
