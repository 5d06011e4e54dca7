// Command xsync does some of the work of the shapes with golang.org/x/sync, which is no part of Go's standard library: it is built
// only where the module's source is at hand.
//
//	xsync OPERATIONS
//
// takes a permit of a weighted semaphore and gives it back, by two goroutines with half of the operations each; nobody waits. It prints the nanoseconds
// that this took in all.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// workers is how many goroutines there are.
const workers = 2

// permits never run out.
const permits = 1024

func main() {
	if len(os.Args) != 2 {
		fail("usage: xsync OPERATIONS")
	}
	operations, err := strconv.Atoi(os.Args[1])
	if err != nil || operations < workers {
		fail("OPERATIONS is a number from 2")
	}
	runtime.GOMAXPROCS(workers)
	weighted := semaphore.NewWeighted(permits)
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	ready.Add(workers)
	done.Add(workers)
	for worker := 0; worker < workers; worker++ {
		go func() {
			ready.Done()
			<-begin
			for i := 0; i < operations/workers; i++ {
				if !weighted.TryAcquire(1) {
					fail("wrong")
				}
				weighted.Release(1)
			}
			done.Done()
		}()
	}
	ready.Wait()
	start := time.Now()
	close(begin)
	done.Wait()
	elapsed := time.Since(start)
	if !weighted.TryAcquire(permits) {
		fail("wrong")
	}
	fmt.Println(elapsed.Nanoseconds())
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
