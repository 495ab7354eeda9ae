// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Testing

@testable import Supervision

/// What docs/FROM-BASTION.md says of itself: that the tests exist that it names, and that what it names besides works.
@Suite struct FromBastionTests {
    /// Every test that the document names is one of ours.
    @Test func theTestsThatItNamesExist() throws {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
        let text = try #require(Self.read("\(root)/docs/FROM-BASTION.md"))
        let defects = try #require(text.ranges(of: "## Defects of the original").first)
        let lines = text[defects.upperBound...].split(separator: "\n").filter { $0.hasPrefix("| ") }
        let named = lines.compactMap { $0.split(separator: "|").last }
            .flatMap { $0.split(separator: "`").enumerated().filter { $0.offset % 2 == 1 }.map { String($0.element) } }
        #expect(named.count > 20)
        var sources = ""
        for folder in ["SupervisionTests", "LightProcTests", "ExecutorTests"] {
            let path = "\(root)/Tests/\(folder)"
            for file in Self.list(path) where file.hasSuffix(".swift") {
                sources += "// suite \(file.dropLast(6)) \(folder)\n" + (Self.read("\(path)/\(file)") ?? "")
            }
        }
        for name in named {
            let isThere = !sources.ranges(of: "func \(name)(").isEmpty || !sources.ranges(of: " \(name) ").isEmpty
            #expect(isThere, "no test \(name)")
        }
    }

    private static func read(_ path: String) -> String? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func list(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            names.append(name)
        }
        return names
    }

    /// `run!` within a child blocked a worker, for ever if all do it (defect 18).
    @Test func runOnAWorkerIsAnErrorAtOnce() async throws {
        let pool = try WorkerPool(workers: 2)
        let outcome = await pool.spawn { pool.run { 1 } }.outcome()
        guard case .failed(let reason) = outcome, reason.trapReport != nil else {
            Issue.record("\(outcome)")
            return
        }
        await pool.shutDownElsewhere()
    }

    private struct Vocabulary: Reactive {
        typealias Message = AnyMessage
        let trace: Trace
        mutating func receive(_ message: consuming AnyMessage, in context: borrowing ReactiveContext<Self>) throws {
            let (me, group) = (context.ref, try context.group())
            let isMe = context.signature == RefAddr(me)
            trace("\(group.name) \(group.members.count) \(context.supervisor != nil) \(isMe)")
            message.onQuestion(Int.self) { n, reply in reply(n + 1) }.onFallback { context.deadLetter($0) }
        }
    }

    /// One of each name that stands in the middle column, where a line of its own says that it is so.
    @Test func whatItNamesIsThere() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(
            "shop",
            intensity: RestartIntensity(3, within: .seconds(5)),
            callbacks: Callbacks(beforeStart: { trace("before \($0.name)") })
        ) {
            Children("orders", Vocabulary(trace: trace), redundancy: 2, backoff: .linear(.seconds(1), cap: .seconds(9)))
                .dispatcher(Dispatcher(.named("orders"), handler: BroadcastHandler()))
                .distributor("orders", .roundRobin)
                .callbacks(Callbacks(afterStop: { occasion in trace("\(occasion.path) \(occasion.restarts)") }))
                .heartbeat(every: .seconds(60), within: .seconds(5))
                .mailbox(.bounded(1_000, .suspend))
        }
        let group = try tree.group("orders", of: AnyMessage.self)
        sim.drain()
        #expect(Set(group.members) == Set(group.members.map { ProcRef<AnyMessage>($0.proc) }))
        #expect(sim.system.members(ofDispatcher: "orders")?.count == 2)
        let distributor = Distributor<AnyMessage>.named("orders", in: sim.system)
        #expect(distributor.members.count == 2)
        try sim.system.broadcast(AnyMessage("unknown"), to: .group("orders"))
        try sim.system.notify(.group("orders"), .register)
        try distributor.tellOne(AnyMessage("unknown"))
        let answers = group.dynamic.requestAll(1, as: Int.self).map { Answer($0) }
        sim.drain()
        #expect(answers.map(\.value) == [2, 2])
        #expect(sim.system.deadLetters == 3)
        #expect(sim.trace.lines.first == "before shop")
        #expect(sim.trace.lines.dropFirst().allSatisfy { $0 == "orders 2 true true" })
        #expect(RefAddr(group.members[0].dynamic).path == "/shop/orders-0")
        #expect(RefAddr.anonymous.path == nil && !RefAddr.anonymous.isIdentified)
        trace.clear()
        #expect(sim.stops(tree))
        #expect(sim.trace.lines == ["/shop/orders-1 0", "/shop/orders-0 0"])
    }
}
