// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

internal import CNuma
internal import Glibc

/// Puts the calling thread on its seat: ties it to a PU, and has its memory come from the PU's node.
public enum ThreadPlacement {
    /// What taking a seat achieved.
    public struct Outcome: Sendable, Equatable {
        /// Whether the thread prefers memory of the seat's node; `false` without NUMA or where a sandbox forbids it.
        public let prefersNodeMemory: Bool
    }

    /// Pins the calling thread to the PU of the seat and lets it prefer memory of the seat's node.
    ///
    /// A refused memory preference is no error: a pinned thread gets local memory from the kernel by first touch anyway.
    /// - Throws: as `pin(toOSPU:)`; the thread is then where it was.
    @discardableResult
    public static func take(_ seat: Seat) throws(TopologyError) -> Outcome {
        try pin(toOSPU: seat.osPU)
        guard let node = seat.memoryNode else { return Outcome(prefersNodeMemory: false) }
        let prefers = (try? preferMemory(ofOSNode: node)) ?? false
        return Outcome(prefersNodeMemory: prefers)
    }

    /// Ties the calling thread to one PU.
    ///
    /// - Parameter osPU: the kernel's CPU number, not negative.
    /// - Throws: `processorUnavailable` if the CPU is absent, offline or outside the cpuset; `pinningDenied` if a
    ///   sandbox forbids pinning. The thread is then where it was.
    public static func pin(toOSPU osPU: Int) throws(TopologyError) {
        try restrict(toOSPUs: [osPU])
    }

    /// Lets the calling thread run on any of the given PUs: the way back from `pin(toOSPU:)`.
    ///
    /// - Parameter osPUs: the kernel's CPU numbers, at least one. Those that are unavailable are ignored if others are.
    /// - Throws: as `pin(toOSPU:)`.
    public static func restrict(toOSPUs osPUs: [Int]) throws(TopologyError) {
        let list = CPUList.format(osPUs.sorted())
        // 2^22 CPUs are far beyond any kernel; a mask for a larger number would only waste memory.
        guard !osPUs.isEmpty, osPUs.allSatisfy({ (0..<(1 << 22)).contains($0) }) else {
            throw TopologyError(.processorUnavailable, "cannot pin to CPU \(list): no such CPU", errno: EINVAL)
        }
        switch AffinityMask(osPUs).applyToCallingThread() {
        case 0: return
        case EINVAL:
            throw TopologyError(
                .processorUnavailable,
                "cannot pin to CPU \(list): it is absent, offline, or outside the cpuset of this process; read the topology again",
                errno: EINVAL
            )
        case EPERM, EACCES, ENOSYS:
            throw TopologyError(
                .pinningDenied,
                "cannot pin to CPU \(list): not permitted; allow sched_setaffinity in the sandbox, or run with pinning off",
                errno: EPERM
            )
        case let number:
            // ESRCH and EFAULT cannot happen: the thread is the calling one, the mask an array of ours.
            throw TopologyError(.pinningDenied, "cannot pin to CPU \(list): \(systemMessage(number))", errno: number)
        }
    }

    /// The kernel's number of the PU that runs the caller right now, or `nil` if the kernel does not say.
    public static func currentPU() -> Int? {
        guard let cpu = Self.schedGetCPU?(), cpu >= 0 else { return nil }
        return Int(cpu)
    }

    /// glibc's `sched_getcpu`, which Swift's Glibc module hides behind `_GNU_SOURCE`; looked up once.
    private static let schedGetCPU: (@convention(c) () -> Int32)? =
        // safety: a symbol of that name is glibc's function `int sched_getcpu(void)`; a null handle searches all libraries.
        dlsym(nil, "sched_getcpu").map { unsafeBitCast($0, to: (@convention(c) () -> Int32).self) }

    /// The kernel's numbers of the PUs that the calling thread may run on, ascending.
    ///
    /// - Throws: `affinityUnknown` if a sandbox hides them.
    public static func affinity() throws(TopologyError) -> [Int] { try AffinityMask.ofThread(0).cpus }

    /// Whether the kernel has NUMA memory policies.
    public static var isNUMAAvailable: Bool { numa_available() >= 0 }

    /// Lets the calling thread take its memory from a node as long as that has some.
    ///
    /// - Returns: `false` if the kernel knows no NUMA: then nothing was done.
    /// - Throws: `memoryPolicyFailed` if there is no such node, or a sandbox forbids it.
    @discardableResult
    public static func preferMemory(ofOSNode node: Int) throws(TopologyError) -> Bool {
        guard isNUMAAvailable else { return false }
        var mask = try nodeMask(node)
        // maxnode counts one bit more than the kernel reads, an old habit of its interface.
        let status = set_mempolicy(Int32(MPOL_PREFERRED), &mask, UInt(mask.count * UInt.bitWidth + 1))
        guard status == 0 else { throw memoryFailure(node, errno) }
        return true
    }

    /// Takes back `preferMemory(ofOSNode:)` for the calling thread.
    public static func preferAnyMemory() {
        guard isNUMAAvailable else { return }
        // EPERM of a sandbox: then the preference could not be set either.
        _ = set_mempolicy(Int32(MPOL_DEFAULT), nil, 0)
    }

    /// Lets the whole pages of a range come from a node as long as that has memory; pages already there stay.
    ///
    /// - Parameter range: memory of the caller. Pages that it covers only in part keep their policy.
    /// - Returns: `false` if the kernel knows no NUMA or the range has no whole page: then nothing was done.
    /// - Throws: `memoryPolicyFailed` if there is no such node, or a sandbox forbids it.
    @discardableResult
    public static func preferMemory(
        ofOSNode node: Int,
        for range: UnsafeMutableRawBufferPointer
    ) throws(TopologyError) -> Bool {
        guard isNUMAAvailable, let start = range.baseAddress else { return false }
        let page = UInt(sysconf(Int32(_SC_PAGESIZE)))
        let first = (UInt(bitPattern: start) + page - 1) & ~(page - 1)
        let end = (UInt(bitPattern: start) + UInt(range.count)) & ~(page - 1)
        guard first < end, let address = UnsafeMutableRawPointer(bitPattern: first) else { return false }
        var mask = try nodeMask(node)
        // safety: address ..< end lies within the caller's range; a policy changes no contents.
        // numa_tonode_memory does the same, but prints failures on stderr.
        let status = mbind(address, end - first, Int32(MPOL_PREFERRED), &mask, UInt(mask.count * UInt.bitWidth + 1), 0)
        guard status == 0 else { throw memoryFailure(node, errno) }
        return true
    }

    private static func nodeMask(_ node: Int) throws(TopologyError) -> [UInt] {
        guard (0..<(1 << 16)).contains(node) else { throw memoryFailure(node, EINVAL) }
        var words = [UInt](repeating: 0, count: node / UInt.bitWidth + 1)
        words[node / UInt.bitWidth] = 1 << UInt(node % UInt.bitWidth)
        return words
    }

    private static func memoryFailure(_ node: Int, _ number: Int32) -> TopologyError {
        let reason =
            switch number {
            case EINVAL: "it does not exist, has no memory, or is outside the cpuset; read the topology again"
            case EPERM: "not permitted; allow set_mempolicy and mbind in the sandbox, or run without memory preference"
            default: systemMessage(number)  // ENOMEM, and EIO for a strict policy that we do not ask for.
            }
        return TopologyError(.memoryPolicyFailed, "cannot prefer memory of node \(node): \(reason)", errno: number)
    }
}
