// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

// Stock Swift: default global executor, Task, actor, AsyncStream.
// usage: bench_swift <peer: swift|swift-actor> <bench> <sizes...>
//   swift       = mailbox is an AsyncStream read by a Task (or plain Tasks where no mailbox is needed)
//   swift-actor = `actor` with method calls; one-way sends are Tasks
import Glibc
import Synchronization

func now() -> Double {
    var t = timespec()
    clock_gettime(CLOCK_MONOTONIC, &t)
    return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}
func cpu() -> Double {
    var r = rusage()
    getrusage(0, &r)  // RUSAGE_SELF
    return Double(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + Double(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6
}
func status(_ key: String) -> Int {  // kB
    let f = fopen("/proc/self/status", "r")!
    defer { fclose(f) }
    var buf = [CChar](repeating: 0, count: 256)
    while fgets(&buf, 256, f) != nil {
        let l = buf.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        if l.hasPrefix(key + ":") { return Int(l.split(whereSeparator: { " \t".contains($0) })[1])! }
    }
    return 0
}

typealias Mailbox<T: Sendable> = (stream: AsyncStream<T>, send: AsyncStream<T>.Continuation)
func mailbox<T: Sendable>(_: T.Type = T.self) -> Mailbox<T> {
    let (s, c) = AsyncStream.makeStream(of: T.self)
    return (s, c)
}

// ---------------------------------------------------------------- AsyncStream mailboxes / Tasks
enum Streams {
    static func pingPong(_ n: Int) async {
        let a = mailbox(Int.self)
        let b = mailbox(Int.self)
        let pong = Task { for await m in b.stream { a.send.yield(m &+ 1) } }
        let ping = Task {
            var it = a.stream.makeAsyncIterator()
            for i in 0..<n {
                b.send.yield(i)
                let r = await it.next()!
                precondition(r == i &+ 1)
            }
            b.send.finish()
        }
        await ping.value
        await pong.value
    }
    static func ring(_ size: Int, _ hops: Int) async {
        let boxes = (0..<size).map { _ in mailbox(Int.self) }
        let done = mailbox(Int.self)
        for i in 0..<size {
            let me = boxes[i].stream
            let next = boxes[(i + 1) % size].send
            Task {
                for await token in me {
                    if token == 0 { done.send.yield(i) } else { next.yield(token - 1) }
                }
            }
        }
        boxes[0].send.yield(hops)
        var it = done.stream.makeAsyncIterator()
        _ = await it.next()
        for box in boxes { box.send.finish() }
    }
    enum Count: Sendable {
        case inc
        case get(AsyncStream<Int>.Continuation)
    }
    static func counting(_ n: Int) async {
        let box = mailbox(Count.self)
        let reply = mailbox(Int.self)
        Task {
            var c = 0
            for await m in box.stream {
                switch m {
                case .inc: c += 1
                case .get(let k): k.yield(c)
                }
            }
        }
        Task {
            for _ in 0..<n { box.send.yield(.inc) }
            box.send.yield(.get(reply.send))
        }
        var it = reply.stream.makeAsyncIterator()
        let total = await it.next()!
        precondition(total == n)
        box.send.finish()
    }
    static func fanIn(_ senders: Int, _ m: Int) async {
        let box = mailbox(Int.self)
        let rx = Task { () -> Int in
            var c = 0
            var left = senders * m
            for await v in box.stream {
                c &+= v
                left -= 1
                if left == 0 { break }
            }
            return c
        }
        for _ in 0..<senders { Task { for _ in 0..<m { box.send.yield(1) } } }
        let got = await rx.value
        precondition(got == senders * m)
    }
    static func forkJoinCreate(_ n: Int) async {
        // discarding group: frees each child as it ends (withTaskGroup(of: Int.self) keeps all results: slower, 1.3 GB)
        sinkhole.store(0, ordering: .relaxed)
        await withDiscardingTaskGroup { g in
            for i in 0..<n { g.addTask { sinkhole.wrappingAdd(i & 1, ordering: .relaxed) } }
        }
        let sum = sinkhole.load(ordering: .relaxed)
        precondition(sum == n / 2)
    }
    static func forkJoinThroughput(_ actors: Int, _ m: Int) async {
        let boxes = (0..<actors).map { _ in mailbox(Int.self) }
        let tasks = boxes.map { box in
            Task { () -> Int in
                var c = 0
                var left = m
                for await v in box.stream {
                    c &+= v
                    left -= 1
                    if left == 0 { break }
                }
                return c
            }
        }
        for _ in 0..<m { for b in boxes { b.send.yield(1) } }
        var total = 0
        for t in tasks { total += await t.value }
        precondition(total == actors * m)
    }
    enum Big: Sendable {
        case ping(Int)
        case pong
        case stop
    }
    static func big(_ actors: Int, _ m: Int) async {
        let boxes = (0..<actors).map { _ in mailbox(Big.self) }
        let sends = boxes.map(\.send)
        let sink = mailbox(Int.self)
        for i in 0..<actors {
            Task {
                var rng = Xorshift(seed: UInt64(i + 1))
                var left = m
                sends[rng.next(below: actors)].yield(.ping(i))
                for await msg in boxes[i].stream {
                    switch msg {
                    case .ping(let from): sends[from].yield(.pong)
                    case .pong:
                        left -= 1
                        if left == 0 { sink.send.yield(i) } else { sends[rng.next(below: actors)].yield(.ping(i)) }
                    case .stop: return
                    }
                }
            }
        }
        var it = sink.stream.makeAsyncIterator()
        for _ in 0..<actors { _ = await it.next() }
        for send in sends { send.yield(.stop) }
    }
    static func spawnJoin(_ n: Int) async {
        var s = 0
        for i in 0..<n { s &+= await Task { i & 1 }.value }
        precondition(s == n / 2)
    }
    static func yields(_ tasks: Int, _ m: Int) async {
        await withDiscardingTaskGroup { g in
            for _ in 0..<tasks { g.addTask { for _ in 0..<m { await Task.yield() } } }
        }
    }
    static let started = Atomic<Int>(0)
    static func idle(_ n: Int) async -> [AsyncStream<Int>.Continuation] {
        var keep: [AsyncStream<Int>.Continuation] = []
        keep.reserveCapacity(n)
        for _ in 0..<n {
            let (stream, send) = mailbox(Int.self)
            keep.append(send)
            Task {
                started.wrappingAdd(1, ordering: .relaxed)
                for await v in stream { sinkhole.wrappingAdd(v, ordering: .relaxed) }
            }
        }
        while started.load(ordering: .relaxed) < n { await Task.yield() }
        return keep
    }
}
let sinkhole = Atomic<Int>(0)

struct Xorshift {
    var s: UInt64
    init(seed: UInt64) { s = seed &* 0x9E37_79B9_7F4A_7C15 }
    mutating func next(below n: Int) -> Int {
        s ^= s << 13
        s ^= s >> 7
        s ^= s << 17
        return Int(s % UInt64(n))
    }
}

// ---------------------------------------------------------------- actors
enum Actors {
    actor Pong {
        var c = 0
        @inline(never) func ping(_ i: Int) -> Int {
            c &+= 1
            return i &+ 1
        }
    }
    actor Ping {
        func run(_ p: Pong, _ n: Int) async {
            for i in 0..<n {
                let r = await p.ping(i)
                precondition(r == i &+ 1)
            }
        }
    }
    static func pingPong(_ n: Int) async { await Ping().run(Pong(), n) }

    actor Node {
        var next: Node?
        let done: AsyncStream<Int>.Continuation
        init(_ d: AsyncStream<Int>.Continuation) { done = d }
        func link(_ n: Node?) { next = n }
        func token(_ t: Int) {
            if t == 0 {
                done.yield(0)
            } else {
                let n = next!
                Task { await n.token(t - 1) }
            }
        }
    }
    static func ring(_ size: Int, _ hops: Int) async {
        let done = mailbox(Int.self)
        let nodes = (0..<size).map { _ in Node(done.send) }
        for i in 0..<size { await nodes[i].link(nodes[(i + 1) % size]) }
        await nodes[0].token(hops)
        var it = done.stream.makeAsyncIterator()
        _ = await it.next()
        for n in nodes { await n.link(nil) }
    }
    actor Counter {
        var c = 0
        @inline(never) func inc(_ by: Int) { c &+= by }
        func get() -> Int { c }
    }
    // An actor as the caller: a nonisolated loop of awaits would never leave the callee between two calls
    // (the compiler drops the hop back), so it would not measure a call from one actor to another.
    actor Producer {
        var sent = 0
        func run(_ c: Counter, _ n: Int) async {
            for _ in 0..<n {
                sent &+= 1
                await c.inc(1)
            }
        }
    }
    static func counting(_ n: Int) async {
        let c = Counter()
        await Producer().run(c, n)
        let t = await c.get()
        precondition(t == n)
    }
    static func fanIn(_ senders: Int, _ m: Int) async {
        let c = Counter()
        await withDiscardingTaskGroup { g in
            for _ in 0..<senders { g.addTask { await Producer().run(c, m) } }
        }
        let t = await c.get()
        precondition(t == senders * m)
    }
    static func forkJoinCreate(_ n: Int) async {  // one actor per unit of work, one message each
        sinkhole.store(0, ordering: .relaxed)
        await withDiscardingTaskGroup { g in
            for i in 0..<n {
                g.addTask {
                    let a = Counter()
                    await a.inc(i & 1)
                    sinkhole.wrappingAdd(await a.get(), ordering: .relaxed)
                }
            }
        }
        let sum = sinkhole.load(ordering: .relaxed)
        precondition(sum == n / 2)
    }
    actor Drain {
        var left: Int, sum = 0
        let out: AsyncStream<Int>.Continuation
        init(_ n: Int, _ o: AsyncStream<Int>.Continuation) {
            left = n
            out = o
        }
        func put(_ v: Int) {
            sum &+= v
            left -= 1
            if left == 0 { out.yield(sum) }
        }
    }
    // Unstructured Tasks: as children of one task group these sends end out of order, each end then searches the
    // group's list of children under its lock (TaskGroup::removeChildTask), and 4 of 5 runs took more than 120 s.
    static func forkJoinThroughput(_ actors: Int, _ m: Int) async {
        let out = mailbox(Int.self)
        let all = (0..<actors).map { _ in Drain(m, out.send) }
        for _ in 0..<m { for a in all { Task { await a.put(1) } } }
        var it = out.stream.makeAsyncIterator()
        var total = 0
        for _ in 0..<actors { total += await it.next()! }
        precondition(total == actors * m)
    }
    actor BigActor {
        var rng: Xorshift, answered = 0
        init(_ i: Int) { rng = Xorshift(seed: UInt64(i + 1)) }
        @inline(never) func ping() -> Int {
            answered += 1
            return answered
        }
        func run(_ all: [BigActor], _ m: Int) async {
            for _ in 0..<m { _ = await all[rng.next(below: all.count)].ping() }
        }
        func count() -> Int { answered }
    }
    static func big(_ actors: Int, _ m: Int) async {
        let all = (0..<actors).map { BigActor($0) }
        await withDiscardingTaskGroup { g in for a in all { g.addTask { await a.run(all, m) } } }
        var t = 0
        for a in all { t += await a.count() }
        precondition(t == actors * m)
    }
    static func idle(_ n: Int) async -> [Counter] { (0..<n).map { _ in Counter() } }
}

@main struct Main {
    static func main() async {
        let a = CommandLine.arguments
        let peer = a[1]
        let bench = a[2]
        let z = a.dropFirst(3).map { Int($0)! }
        await Task.detached { await go(peer, bench, z) }.value
    }
    static func go(_ peer: String, _ bench: String, _ z: [Int]) async {
        let s = peer == "swift"
        if bench == "idle_memory" {
            let r0 = status("VmRSS")
            let t0 = now()
            let c0 = cpu()
            var keep: any Sendable
            if s { keep = await Streams.idle(z[0]) } else { keep = await Actors.idle(z[0]) }
            let t = now() - t0
            let c = cpu() - c0
            usleep(200_000)
            let r1 = status("VmRSS")
            withExtendedLifetime(keep) {}
            keep = 0
            emit(peer, bench, z[0], t, c, " bytes_per_actor=\((r1 - r0) * 1024 / z[0])")
            exit(0)
        }
        func run(_ z: [Int]) async {
            switch bench {
            case "ping_pong": s ? await Streams.pingPong(z[0]) : await Actors.pingPong(z[0])
            case "thread_ring": s ? await Streams.ring(z[0], z[1]) : await Actors.ring(z[0], z[1])
            case "counting": s ? await Streams.counting(z[0]) : await Actors.counting(z[0])
            case "fan_in": s ? await Streams.fanIn(z[0], z[1]) : await Actors.fanIn(z[0], z[1])
            case "fork_join_create": s ? await Streams.forkJoinCreate(z[0]) : await Actors.forkJoinCreate(z[0])
            case "fork_join_throughput":
                s ? await Streams.forkJoinThroughput(z[0], z[1]) : await Actors.forkJoinThroughput(z[0], z[1])
            case "big": s ? await Streams.big(z[0], z[1]) : await Actors.big(z[0], z[1])
            case "spawn_join": await Streams.spawnJoin(z[0])
            case "yield": await Streams.yields(z[0], z[1])
            default:
                print("unknown bench")
                exit(2)
            }
        }
        var warm = z
        warm[z.count - 1] = max(1, z[z.count - 1] / 10)
        await run(warm)
        let t0 = now()
        let c0 = cpu()
        await run(z)
        emit(peer, bench, bench == "thread_ring" ? z[1] : z.reduce(1, *), now() - t0, cpu() - c0, "")
        exit(0)
    }
    static func emit(_ peer: String, _ bench: String, _ n: Int, _ t: Double, _ c: Double, _ extra: String) {
        print(
            "peer=\(peer) bench=\(bench) n=\(n) seconds=\(t) ops_per_s=\(Int(Double(n) / t)) cpu_s=\(c) hwm_kb=\(status("VmHWM"))\(extra)"
        )
        fflush(nil)
    }
}
