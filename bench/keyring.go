// The agent that Go's x/crypto has in it, with nothing around it: a keyring on a socket.
package main

import (
	"net"
	"os"

	"golang.org/x/crypto/ssh/agent"
)

func main() {
	keyring := agent.NewKeyring()
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		panic(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			agent.ServeAgent(keyring, connection)
			connection.Close()
		}()
	}
}
