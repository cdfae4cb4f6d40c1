//go:build tools

// Package tools pins what set-up builds: go.mod and go.sum hold the versions and checksums of Toxiproxy's server.
package tools

import _ "github.com/Shopify/toxiproxy/v2/cmd/server"
