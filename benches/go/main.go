// Command bench does some of the work of the shapes in Go, with nothing but its standard library:
// what a Go programmer has before the first dependency.
//
//	bench SHAPE OPERATIONS [CHILDREN | FOLDER]
//
// prints the nanoseconds that the operations took in all, and "wrong" and an exit code of 1 when the
// result is not what it should be. The benches start it once a round, in turn with the others.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// workers is how many goroutines work at a time where a shape has workers.
const workers = 2

// room is how much a channel between two goroutines holds.
const room = 1024

func main() {
	if len(os.Args) < 3 {
		fail("usage: bench SHAPE OPERATIONS [CHILDREN | FOLDER]")
	}
	operations, err := strconv.Atoi(os.Args[2])
	if err != nil || operations < 1 {
		fail("OPERATIONS is a number from 1")
	}
	runtime.GOMAXPROCS(workers)
	var elapsed time.Duration
	var right bool
	switch os.Args[1] {
	case "check":
		elapsed, right = check(operations)
	case "child":
		elapsed, right = child(operations)
	case "cancel children":
		if len(os.Args) < 4 {
			fail("cancel children needs CHILDREN")
		}
		children, err := strconv.Atoi(os.Args[3])
		if err != nil || children < 1 || operations%children != 0 {
			fail("CHILDREN divides OPERATIONS")
		}
		right = true
		for trees := operations / children; trees > 0; trees-- {
			span, all := cancelChildren(children)
			elapsed, right = elapsed+span, right && all
		}
	case "semaphore":
		elapsed, right = semaphore(operations)
	case "tasks":
		elapsed, right = tasks(operations)
	case "jobs":
		elapsed, right = jobs(operations)
	case "goroutines":
		elapsed, right = goroutines(operations)
	case "boundary":
		elapsed, right = boundary(operations)
	case "digest":
		if len(os.Args) < 4 {
			fail("digest needs a FOLDER")
		}
		elapsed, right = digest(operations, os.Args[3])
	default:
		fail("no shape " + os.Args[1])
	}
	if !right {
		fail("wrong")
	}
	fmt.Println(elapsed.Nanoseconds())
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

// check asks a context whether it has ended.
func check(n int) (time.Duration, bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	right := true
	start := time.Now()
	for i := 0; i < n; i++ {
		right = right && ctx.Err() == nil
	}
	return time.Since(start), right
}

// child makes a context below another and cancels it.
func child(n int) (time.Duration, bool) {
	parent, cancel := context.WithCancel(context.Background())
	defer cancel()
	start := time.Now()
	for i := 0; i < n; i++ {
		_, end := context.WithCancel(parent)
		end()
	}
	return time.Since(start), parent.Err() == nil
}

// cancelChildren cancels a context with n below it.
func cancelChildren(n int) (time.Duration, bool) {
	parent, cancel := context.WithCancel(context.Background())
	children := make([]context.Context, n)
	ends := make([]context.CancelFunc, n)
	for i := range children {
		children[i], ends[i] = context.WithCancel(parent)
	}
	start := time.Now()
	cancel()
	elapsed := time.Since(start)
	right := true
	for i, child := range children {
		right = right && child.Err() != nil
		ends[i]()
	}
	return elapsed, right
}

// semaphore takes and gives back a place in a buffered channel.
func semaphore(n int) (time.Duration, bool) {
	permits := make(chan struct{}, room)
	start := time.Now()
	for i := 0; i < n; i++ {
		permits <- struct{}{}
		<-permits
	}
	return time.Since(start), len(permits) == 0
}

// tasks is 64 goroutines on four permits, each of which yields while it holds one.
func tasks(n int) (time.Duration, bool) {
	const many = 64
	permits := make(chan struct{}, 4)
	var done int64
	var all sync.WaitGroup
	start := time.Now()
	for task := 0; task < many; task++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := 0; i < n/many; i++ {
				permits <- struct{}{}
				runtime.Gosched()
				<-permits
				atomic.AddInt64(&done, 1)
			}
		}()
	}
	all.Wait()
	return time.Since(start), done == int64(n/many*many)
}

// jobs is workers on a channel of closures.
func jobs(n int) (time.Duration, bool) {
	queue := make(chan func(), room)
	var all sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for job := range queue {
				job()
			}
		}()
	}
	var sum int64
	start := time.Now()
	for i := 0; i < n; i++ {
		number := int64(i)
		queue <- func() { atomic.AddInt64(&sum, number) }
	}
	close(queue)
	all.Wait()
	return time.Since(start), sum == int64(n)*int64(n-1)/2
}

// goroutines is one for each job, with nothing that bounds them.
func goroutines(n int) (time.Duration, bool) {
	var sum int64
	var all sync.WaitGroup
	start := time.Now()
	for i := 0; i < n; i++ {
		all.Add(1)
		go func(number int64) {
			defer all.Done()
			atomic.AddInt64(&sum, number)
		}(int64(i))
	}
	all.Wait()
	return time.Since(start), sum == int64(n)*int64(n-1)/2
}

// boundary is a source, one stage and a sink, with a channel between each two.
func boundary(n int) (time.Duration, bool) {
	items := make(chan uint64, room)
	results := make(chan uint64, room)
	start := time.Now()
	go func() {
		for i := 0; i < n; i++ {
			items <- uint64(i)
		}
		close(items)
	}()
	go func() {
		for item := range items {
			results <- item*3 + 1
		}
		close(results)
	}()
	var sum uint64
	for item := range results {
		sum += item
	}
	elapsed := time.Since(start)
	many := uint64(n)
	return elapsed, sum == 3*(many*(many-1)/2)+many
}

// digest hashes every file below a folder with a bounded number of goroutines, and writes path and
// hash to standard error, a line a file, for whoever started it to check.
func digest(n int, folder string) (time.Duration, bool) {
	type hashed struct {
		path string
		sum  [sha256.Size]byte
		err  error
	}
	paths := make(chan string, room)
	results := make(chan hashed, room)
	start := time.Now()
	go func() {
		defer close(paths)
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				paths <- path
			}
			return err
		})
		if err != nil {
			results <- hashed{err: err}
		}
	}()
	var all sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for path := range paths {
				content, err := os.ReadFile(path)
				results <- hashed{path, sha256.Sum256(content), err}
			}
		}()
	}
	go func() {
		all.Wait()
		close(results)
	}()
	var files []hashed
	for file := range results {
		files = append(files, file)
	}
	elapsed := time.Since(start)
	out := bufio.NewWriter(os.Stderr)
	right := len(files) == n
	for _, file := range files {
		right = right && file.err == nil
		fmt.Fprintf(out, "%s  %s\n", hex.EncodeToString(file.sum[:]), file.path)
	}
	return elapsed, right && out.Flush() == nil
}
