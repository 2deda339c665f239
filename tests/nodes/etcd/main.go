// etcd as it is released; Debian has no version that speaks the gRPC protocol of discovery.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
