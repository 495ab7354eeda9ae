// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CSandbox
import Executor
import Glibc

/// That workers and their memory lie where they should, on the machine that the program runs on: one line for each
/// assertion, `ok NAME` or `FAILED NAME`, and how many there were.
///
///     numa-proof --nodes 0:0-1,1:2-3 --distances 10.12/12.10 --like SYNTHETIC   what the machine is
///         --steals near|local     whether the CPUs of a node share nothing else, or a core
///     numa-proof --memory-on 1        all memory lies on this node, as the cpuset allows no other
///     numa-proof --sandboxed          memory policies are forbidden: workers run all the same
///     numa-proof --strange            workers are on nodes whose memory the cpuset forbids: likewise
///
/// The nodes are the kernel's numbers, each with the CPUs that may be used; the distances a row for each of them. `like` is a
/// machine in hwloc's synthetic notation for which the planner has to make the same plan.
@main
enum NumaProof {
    static func main() throws {
        var arguments = CommandLine.arguments.dropFirst()
        var options: [String: String] = [:]
        while let option = arguments.popFirst() {
            if ["--sandboxed", "--strange"].contains(option) {
                options[option] = ""
            } else {
                options[option] = arguments.popFirst() ?? ""
            }
        }
        if options["--sandboxed"] != nil {
            let status = csandbox_forbidMemoryPolicy()
            guard status == 0 else {
                say("FAILED sandbox: errno \(status)")
                exit(1)
            }
        }
        let report = Report()
        let topology = try Topology.current()
        let placement = try Placement(topology)
        if let nodes = options["--nodes"] {
            let machine = ExpectedMachine(nodes: nodes, distances: options["--distances"] ?? "")
            machine.check(topology, placement, like: options["--like"], report)
        }
        let pool = WorkerPool(placement: placement, stallThreshold: nil)
        let floor = Floor(pool)
        let proof = WorkerProof(floor, report)
        proof.processingUnits()
        if let node = options["--memory-on"].flatMap({ Int($0) }) {
            try proof.memory { _ in node }
        } else if options["--sandboxed"] != nil || options["--strange"] != nil {
            proof.traffic()
            report.expect(true, "traffic", "all of it arrived")
        } else {
            try proof.memory { $0.memoryNode }
            proof.steals(areLocal: options["--steals"] == "local")
            proof.wakes()
            proof.spawns()
            proof.pins()
        }
        pool.shutdown()
        report.end()
    }
}

/// Counts assertions and prints one line for each.
final class Report {
    private var (count, failed) = (0, 0)

    func expect(_ holds: Bool, _ name: String, _ details: @autoclosure () -> String) {
        count += 1
        if !holds { failed += 1 }
        say("\(holds ? "ok" : "FAILED") \(name): \(details())")
    }

    func end() -> Never {
        say("numa-proof: \(count) assertions, \(failed) failed")
        exit(failed == 0 ? 0 : 1)
    }
}

func say(_ text: String) {
    print(text)
    fflush(nil)
}
