// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Foundation
import Testing

/// What the program shows to people.
@Suite(.timeLimit(.minutes(2))) struct TopologyPictureTests {
    @Test func madeUpMachineIsDrawnWhole() throws {
        let run = try Run(["--synthetic", "pack:2 numa:1 l3:1 core:2 pu:2", "--workers", "7"])
        #expect(run.status == 0 && run.errors == "")
        #expect(
            run.output == """
                Machine   "pack:2 numa:1 l3:1 core:2 pu:2": 8 PUs, 4 cores, 2 packages, 2 NUMA nodes
                Usable    CPUs 0-7
                Workers   7 workers, as asked for, on 8 usable PUs; not pinned, as this is another machine

                Machine
                ├─ Package 0 ═ NUMA node 0 (1 GiB) ═ L3 #0 (16 MiB)
                │  ├─ Core 0  [0→w0] [1→w4]
                │  └─ Core 1  [2→w1] [3→w5]
                └─ Package 1 ═ NUMA node 1 (1 GiB) ═ L3 #1 (16 MiB)
                   ├─ Core 2  [4→w2] [5→w6]
                   └─ Core 3  [6→w3] [7 ·]

                [cpu→worker]  · usable, no worker  ✕ not allowed

                worker  cpu  PU  core  L3  node  memory  kind  steals from, nearest first
                     0    0   0     0   0     0       0  -     core: 4 | L3: 1,5 | elsewhere (3 levels up): 2-3,6
                     1    2   2     1   0     0       0  -     core: 5 | L3: 0,4 | elsewhere (3 levels up): 2-3,6
                     2    4   4     2   1     1       1  -     core: 6 | L3: 3 | elsewhere (3 levels up): 0-1,4-5
                     3    6   6     3   1     1       1  -     L3: 2,6 | elsewhere (3 levels up): 0-1,4-5
                     4    1   1     0   0     0       0  -     core: 0 | L3: 1,5 | elsewhere (3 levels up): 2-3,6
                     5    3   3     1   0     0       0  -     core: 1 | L3: 0,4 | elsewhere (3 levels up): 2-3,6
                     6    5   5     2   1     1       1  -     core: 2 | L3: 3 | elsewhere (3 levels up): 0-1,4-5

                """
        )
    }

    @Test func kindsModelsAndPUsWithoutCoresAreDrawn() throws {
        try inTemporaryFolder { folder in
            let file = folder.appendingPathComponent("machine.xml").path
            try TopologyXML.sparse.write(toFile: file, atomically: true, encoding: .utf8)
            let run = try Run(["--xml", file])
            #expect(run.status == 0 && run.errors == "")
            #expect(
                run.output.hasPrefix(
                    """
                    Machine   \(file): 5 PUs, 2 cores, 2 packages, 1 NUMA node
                    Kinds     Frugal (kind 0): 2 PUs, Swift (kind 1): 3 PUs
                    Usable    CPUs 4-6,8-9
                    Workers   5 workers: 5 of 5 PUs usable, one worker each; not pinned, as this is another machine

                    Machine
                    ├─ Package 0: Imagined & Fast ═ NUMA node 0 (3 GiB) ═ L3 #0 (24 MiB)
                    │  ├─ Core 0 Swift  [4→w0] [5→w4]
                    │  └─ Core 1 Swift  [6→w1]
                    └─ Package 1
                       ├─ PU 3 Frugal  [8→w2]
                       └─ PU 4 Frugal  [9→w3]


                    """
                ),
                "\(run.output)"
            )
        }
    }

    @Test func thisMachineIsDrawnWithItsWorkers() throws {
        let run = try Run([])
        #expect(run.status == 0 && run.errors == "")
        let lines = run.output.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines[0].hasPrefix("Machine   this machine"))
        #expect(lines.contains("Machine"))
        for worker in try Plan().workers {
            #expect(run.output.contains("[\(worker.osPU)→w\(worker.index)]"))
        }
    }

    @Test(arguments: [["--help"], ["-h"], ["--json", "--help"]])
    func helpNamesEveryOption(arguments: [String]) throws {
        let run = try Run(arguments)
        #expect(run.status == 0 && run.errors == "")
        #expect(run.output.hasPrefix("usage: topology "))
        for option in ["--xml FILE", "--synthetic TEXT", "--workers N", "--json"] {
            #expect(run.output.contains("\n  \(option) "))
        }
    }
}

/// How the program ends where it has nothing to print.
@Suite(.timeLimit(.minutes(2))) struct TopologyFailureTests {
    /// One line on standard error, nothing on standard output, with `--json` and without.
    private func expectFailure(
        _ arguments: [String],
        _ status: Int32,
        _ message: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        for arguments in [arguments, ["--json"] + arguments] {
            let run = try Run(arguments)
            #expect(run.status == status, "\(arguments)", sourceLocation: sourceLocation)
            #expect(run.output == "", "\(arguments)", sourceLocation: sourceLocation)
            #expect(run.errors == "topology: \(message)\n", "\(arguments)", sourceLocation: sourceLocation)
        }
    }

    @Test(arguments: [
        (["--none"], "unknown option '--none'; topology --help lists the options"),
        (["--json=yes"], "unknown option '--json=yes'; topology --help lists the options"),
        (["file.xml"], "unknown option 'file.xml'; topology --help lists the options"),
        ([""], "unknown option ''; topology --help lists the options"),
        (["--xml"], "--xml needs a value; topology --help shows an example"),
        (["--xml="], "--xml needs a value; topology --help shows an example"),
        (["--synthetic", ""], "--synthetic needs a value; topology --help shows an example"),
        (["--workers"], "--workers needs a value; topology --help shows an example"),
        (["--workers", "0"], "--workers needs a number of at least 1, got '0'"),
        (["--workers=-1"], "--workers needs a number of at least 1, got '-1'"),
        (["--workers", "many"], "--workers needs a number of at least 1, got 'many'"),
        (
            ["--xml", "a", "--synthetic", "pu:1"],
            "--xml and --synthetic each name a machine; give only one of them, once"
        ),
        (
            ["--synthetic", "core:2 pu:2", "--workers", "5"],
            "5 workers need 5 processors, but only 4 are usable; ask for 4 or fewer"
        ),
        (
            ["--synthetic", "core:4"],
            "hwloc rejects the synthetic description 'core:4'; write levels as 'pack:2 numa:1 l3:2 core:4 pu:2', PUs last"
        ),
    ])
    func wrongArgumentsAreRefused(arguments: [String], message: String) throws {
        try expectFailure(arguments, 64, message)
    }

    /// As in a sandbox that filters `sched_getaffinity`.
    @Test func aMachineThatDoesNotTellItsProcessorsIsToldOf() throws {
        let run = try Sandbox.run([])
        #expect(run.status == 71 && run.output == "", "\(run)")
        // libnuma, when it is loaded, may have said something before us.
        let line = "cannot read the affinity mask: Operation not permitted; allow sched_getaffinity in the sandbox"
        #expect(run.errors.split(separator: "\n").last == "topology: \(line)", "\(run.errors)")
        // Other machines are described all the same.
        #expect(try Sandbox.run(["--synthetic", "core:2 pu:1"]).status == 0)
    }

    @Test func filesThatAreNoMachineAreRefused() throws {
        try inTemporaryFolder { folder in
            let path = folder.path
            try expectFailure(
                ["--xml", "\(path)/none"],
                66,
                "cannot read '\(path)/none': no such file; check the path"
            )
            try expectFailure(["--xml", path], 66, "cannot read '\(path)': it is a directory; name a file in it")
            for (name, text, fault) in [
                ("empty.xml", "", "empty"), ("text.xml", "no machine\n", "no XML"), ("page.xml", "<html/>", "<html>"),
                ("half.xml", String(TopologyXML.sparse.prefix(900)), "line "),
                // A path is part of the message, which stays one line.
                ("two\nlines.xml", "<html/>", "two lines.xml"),
            ] {
                let file = folder.appendingPathComponent(name).path
                try text.write(toFile: file, atomically: true, encoding: .utf8)
                let run = try Run(["--xml", file])
                #expect(run.status == 66 && run.output == "", "\(name)")
                let isOneLine = run.errors.last == "\n" && run.errors.count(where: \.isNewline) == 1
                #expect(isOneLine && run.errors.hasPrefix("topology: ") && run.errors.contains(fault), "\(run.errors)")
            }
        }
    }
}
