// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A reason why a topology could not be read, a plan not be made, or a seat not be taken.
///
/// `code` is for programs, `description` for people: it names what was asked for and says what to do about it.
public struct TopologyError: Error, Sendable, Equatable, CustomStringConvertible {
    /// A kind of failure; more may be added.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The name of the static member.
        public let description: String

        /// The file could not be opened or read.
        public static let unreadableFile = Code(description: "unreadableFile")
        /// The file is no hwloc XML, or its contents contradict each other.
        public static let invalidXML = Code(description: "invalidXML")
        /// The synthetic description does not follow hwloc's syntax or describes an unreasonable machine.
        public static let invalidSynthetic = Code(description: "invalidSynthetic")
        /// hwloc could not read this machine; `Topology.current()` catches this and falls back to the affinity mask.
        public static let hwlocFailed = Code(description: "hwlocFailed")
        /// The kernel did not tell which processors this process may use.
        public static let affinityUnknown = Code(description: "affinityUnknown")
        /// The topology has no processor that the process may use.
        public static let noUsableProcessor = Code(description: "noUsableProcessor")
        /// More workers were asked for than there are usable processors, or fewer than one.
        public static let invalidWorkerCount = Code(description: "invalidWorkerCount")
        /// The kernel refused to pin the thread (EPERM): a sandbox filters `sched_setaffinity`.
        public static let pinningDenied = Code(description: "pinningDenied")
        /// The processor does not exist, is offline, or is outside the process's cpuset (EINVAL).
        public static let processorUnavailable = Code(description: "processorUnavailable")
        /// The kernel refused the memory policy.
        public static let memoryPolicyFailed = Code(description: "memoryPolicyFailed")
    }

    /// What went wrong.
    public let code: Code
    /// One line that says what failed and what to do.
    public let description: String
    /// The `errno` behind the failure, or 0 where no system call was involved.
    public let errno: Int32

    package init(_ code: Code, _ description: String, errno: Int32 = 0) {
        self.code = code
        self.description = description
        self.errno = errno
    }
}
