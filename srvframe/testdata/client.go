// A client and a server with as little in them as can be: the test compares its
// size with the import swapped and without.
package main

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	cc, err := grpc.NewClient("reviews:9080", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return
	}
	cc.Connect()
	grpc.NewServer().Stop()
}
