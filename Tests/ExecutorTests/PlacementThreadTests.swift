// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import Executor

/// Runs the body on a thread of its own, so that pinning does not touch the test runner's threads.
private func onOwnThread(_ body: @escaping @Sendable () -> Void) {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let box = Unmanaged.passRetained(Box(body))
    let status = pthread_create(
        &thread,
        nil,
        { argument in
            if let argument { Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body() }
            return nil
        },
        box.toOpaque()
    )
    precondition(status == 0, "no thread: \(status)")
    pthread_join(thread, nil)
}

@Suite struct PlacementThreadTests {
    @Test(arguments: [[0], [0, 63, 64], [1023, 1024], [5000], []])
    func masksHoldAnyCPUNumber(cpus: [Int]) { #expect(AffinityMask(cpus).cpus == cpus) }

    @Test func pinnedThreadRunsOnItsPU() throws {
        let plan = try Placement(Topology.current())
        onOwnThread {
            do {
                let before = try ThreadPlacement.affinity()
                for seat in plan.seats {
                    try ThreadPlacement.take(seat)
                    #expect(try ThreadPlacement.affinity() == [seat.osPU])
                    #expect(ThreadPlacement.currentPU() == seat.osPU)
                }
                ThreadPlacement.preferAnyMemory()
                try ThreadPlacement.restrict(toOSPUs: before)
                #expect(try ThreadPlacement.affinity() == before)
            } catch {
                Issue.record(error)
            }
        }
    }

    @Test(arguments: [100_000, 1 << 21, -1, Int.max])
    func absentPUIsATypedError(osPU: Int) {
        onOwnThread {
            let before = currentAffinity()
            let error = #expect(throws: TopologyError.self) { try ThreadPlacement.pin(toOSPU: osPU) }
            #expect(error?.code == .processorUnavailable)
            #expect(error?.errno == EINVAL)
            #expect(currentAffinity() == before)
        }
    }

    private func currentAffinity() -> [Int]? { try? ThreadPlacement.affinity() }

    @Test func noPUAtAllIsATypedError() {
        #expect(throws: TopologyError.self) { try ThreadPlacement.restrict(toOSPUs: []) }
    }

    @Test func topologyIsTheSameFromAPinnedThread() throws {
        let expected = try Topology.current().usableProcessors.map(\.osIndex)
        onOwnThread {
            do {
                try ThreadPlacement.pin(toOSPU: expected[0])
                #expect(try Topology.current().usableProcessors.map(\.osIndex) == expected)
            } catch {
                Issue.record(error)
            }
        }
    }

    @Test(.enabled(if: ThreadPlacement.isNUMAAvailable, "the kernel has no NUMA"))
    func memoryPrefersAnExistingNodeOnly() throws {
        let node = try #require(Topology.current().nodes.first?.osIndex)
        onOwnThread {
            do throws(TopologyError) {
                let prefers = try ThreadPlacement.preferMemory(ofOSNode: node)
                #expect(prefers)
                ThreadPlacement.preferAnyMemory()
            } catch {
                #expect(error.errno == EPERM, "\(error)")  // Only a sandbox may refuse.
            }
        }
        for absent in [-1, 1_000, Int.max] {
            #expect(throws: TopologyError.self) { try ThreadPlacement.preferMemory(ofOSNode: absent) }
        }
    }

    @Test(.enabled(if: ThreadPlacement.isNUMAAvailable, "the kernel has no NUMA"))
    func rangesPreferWholePagesOnly() throws {
        let node = try #require(Topology.current().nodes.first?.osIndex)
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4 * page, alignment: page)
        defer { memory.deallocate() }
        let part = UnsafeMutableRawBufferPointer(rebasing: memory[1..<(page - 1)])
        let prefersPart = try ThreadPlacement.preferMemory(ofOSNode: node, for: part)
        #expect(!prefersPart)
        do throws(TopologyError) {
            let prefers = try ThreadPlacement.preferMemory(ofOSNode: node, for: memory)
            #expect(prefers)
        } catch {
            #expect(error.errno == EPERM, "\(error)")
        }
        memory.initializeMemory(as: UInt8.self, repeating: 1)
        #expect(memory[4 * page - 1] == 1)
    }
}
