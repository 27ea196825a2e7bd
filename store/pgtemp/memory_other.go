//go:build !linux

package pgtemp

// memoryDir is none: only Linux has one that every user may write to.
func memoryDir() string { return "" }
