// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import Executor

@Suite struct TopologyTests {
    @Test func thisMachineHasAWorkerForEveryUsablePU() throws {
        let topology = try Topology.current()
        #expect(!topology.usableProcessors.isEmpty)
        let affinity = try AffinityMask.ofProcess().cpus
        #expect(Set(topology.usableProcessors.map(\.osIndex)).isSubset(of: affinity))
        let plan = try Placement(topology)
        #expect(plan.seats.count == topology.suggestedWorkerCount)
    }

    @Test func syntheticMachineHasAllItsObjects() throws {
        let machine = try Topology(synthetic: "pack:2 numa:1 l3:2 core:4 pu:2")
        #expect(machine.packages.count == 2)
        #expect(machine.nodes.map(\.osIndex) == [0, 1])
        #expect(machine.caches.filter { $0.level == 3 }.map(\.processors.count) == [8, 8, 8, 8])
        #expect(machine.cores.count == 16)
        #expect(machine.processors.map(\.index) == Array(0..<32))
        #expect(machine.processors[31].node == 1)
        #expect(machine.processors[31].l3 == 3)
        #expect(machine.usableProcessors.count == machine.processors.count)
        #expect(machine.warnings.isEmpty)
    }

    @Test(arguments: [
        "", "   ", "nonsense", "core:4", "pack:0 pu:2", "pack:-1 pu:2", "pu:2 core:2",
        "pack:2 core:99999999999999999999 pu:1",
        "pack:1000 core:1000 pu:1000", "pack:2 (", "numa:2", "2 2 2 x", "pack:2 core:2 pu:2(indexes=", "[numa] [numa]",
        "\0",
        "pack:2\0 pu:1", "pu:65537",
    ])
    func badSyntheticDescriptionIsATypedError(text: String) {
        do throws(TopologyError) {
            let topology = try Topology(synthetic: text)
            // What hwloc accepts after all must be whole.
            #expect(!topology.usableProcessors.isEmpty)
        } catch {
            #expect(error.code == .invalidSynthetic)
            #expect(!error.description.contains("\n"))
        }
    }

    @Test(arguments: ["", "core:4", "pack:1000 core:1000 pu:1000", "nonsense"])
    func suchDescriptionsAreRefused(text: String) {
        #expect(throws: TopologyError.self) { try Topology(synthetic: text) }
    }

    @Test func unreadableFilesAreTypedErrors() throws {
        try withTemporaryDirectory { directory in
            for (path, number) in [
                ("\(directory)/none.xml", ENOENT), (directory, EISDIR), ("\(directory)/a\nb", ENOENT),
            ] {
                let error = try #require(throws: TopologyError.self) { try Topology(xmlFile: path) }
                #expect(error.code == .unreadableFile)
                #expect(error.errno == number)
            }
        }
    }

    @Test func fifoDoesNotHang() throws {
        try withTemporaryDirectory { directory in
            mkfifo("\(directory)/pipe", 0o600)
            let error = try #require(throws: TopologyError.self) { try Topology(xmlFile: "\(directory)/pipe") }
            #expect(error.code == .invalidXML)
        }
    }

    @Test(arguments: [
        ("", "empty"), ("\0", "zero byte"), ("hello", "no XML"), ("<html></html>", "not <topology>"),
        ("<topology version=\"2.0\">", "cut off"), ("<topology version=\"2.0>", "cut off"),
        ("<topology version=2.0/>", "without quotes"), ("<topology a=\"1\" a=\"2\"/>", "twice"),
        ("<topology></object>", "closes no"), ("<topology/><topology/>", "second root"),
        ("<topology a/>", "broken attribute"),
        ("<topology a=\"<\"/>", "closing quote"), ("<!-- x", "does not end"), ("\n\n< >", "line 3"),
    ])
    func brokenXMLIsRefusedWithItsFault(text: String, fault: String) throws {
        let error = try #require(throws: TopologyError.self) { try Topology(xml: Array(text.utf8), name: "test.xml") }
        #expect(error.code == .invalidXML)
        #expect(error.description.contains(fault), "\(error.description)")
        #expect(error.description.contains("'test.xml'"))
    }

    @Test func failureOfHwlocLeavesTheAffinityMask() throws {
        let topology = try Topology.current(files: FileTree(root: "/nonexistent"), affinity: [1, 4, 1500]) {
            () throws(TopologyError) in throw TopologyError(.hwlocFailed, "no luck")
        }
        #expect(topology.origin == .affinityMask)
        #expect(topology.warnings.count == 1)
        #expect(topology.warnings[0].contains("no luck"))
        let plan = try Placement(topology)
        #expect(plan.seats.map(\.osPU) == [1, 4, 1500])
        #expect(plan.pinsWorkers)
        #expect(plan.seats[0].core == nil)
        #expect(plan.seats[0].steal == [[1, 2]])
    }

    @Test func foreignTopologyInTheEnvironmentIsNotTaken() throws {
        // A synthetic machine is not this system, just as one named by HWLOC_XMLFILE.
        let topology = try Topology.current(files: FileTree(), affinity: [0]) { () throws(TopologyError) in
            try HwlocMachine(.synthetic("pack:2 pu:2"))
        }
        #expect(topology.origin == .affinityMask)
        #expect(topology.warnings[0].contains("HWLOC_THISSYSTEM"))
    }

    @Test func machineThatHwlocSeesWithoutOurCPUsIsNotTaken() throws {
        let topology = try Topology.current(files: FileTree(), affinity: [4_000]) { () throws(TopologyError) in
            try HwlocMachine(.thisMachine)
        }
        #expect(topology.origin == .affinityMask)
        #expect(topology.processors.map(\.osIndex) == [4_000])
    }

    @Test func affinityNarrowsTheMachine() throws {
        let all = try AffinityMask.ofProcess().cpus
        let some = Array(all.prefix(1))
        let topology = try Topology.current(files: FileTree(), affinity: some) { () throws(TopologyError) in
            try HwlocMachine(.thisMachine)
        }
        #expect(topology.origin == .thisMachine)
        #expect(topology.usableProcessors.map(\.osIndex) == some)
    }

    @Test func emptyAffinityIsATypedError() throws {
        let error = try #require(throws: TopologyError.self) {
            try Topology.current(files: FileTree(), affinity: []) { () throws(TopologyError) in
                try HwlocMachine(.thisMachine)
            }
        }
        #expect(error.code == .affinityUnknown)
    }
}

@Suite(
    .enabled(
        if: TopologyFiles.arePresent,
        "no hwloc files in ../shared/topologies; BASTION_TOPOLOGIES names another folder"
    )
)
struct TopologyFileTests {
    @Test(arguments: TopologyFiles.names)
    func everyFileIsSound(name: String) throws {
        let machine = try TopologyFiles.load(name)
        expectSound(machine)
        #expect(machine.usableProcessors.count == machine.processors.count)
        #expect(machine.allowance.affinity == nil)
    }

    /// Counts as `lstopo-no-graphics --input FILE` shows them: PUs, cores, L3, packages, nodes.
    @Test(arguments: [
        ("16amd64-8n2c-cpusets.xml", [10, 10, 0, 6, 5]), ("16em64t-4s2c2t-offlines.xml", [7, 6, 4, 4, 1]),
        ("192em64t-12gr2n8c2t.xml", [384, 192, 24, 24, 24]), ("192em64t-24n8c2t.xml", [384, 192, 24, 24, 24]),
        ("24em64t-2n6c2t-pci.xml", [24, 12, 2, 2, 2]), ("32em64t-2n8c2t-pci-noio.xml", [32, 16, 2, 2, 2]),
        ("64intel64-fakeKNL-SNC4-hybrid.xml", [64, 16, 4, 1, 8]), ("8intel64-4n2t-memattrs.xml", [8, 0, 0, 0, 4]),
        ("96em64t-4n4d3ca2co-pci.xml", [96, 96, 16, 16, 4]), ("fakecpukinds.xml", [4, 2, 0, 1, 1]),
        ("fakeheterodistances.xml", [8, 0, 8, 4, 8]), ("power8gpudistances.xml", [16, 8, 8, 2, 2]),
        ("raptor-lake-6p8e.xml", [20, 14, 1, 1, 1]),
    ])
    func objectsAreThoseOfLstopo(name: String, counts: [Int]) throws {
        let machine = try TopologyFiles.load(name)
        let found = [
            machine.processors.count, machine.cores.count, machine.caches.count { $0.level == 3 },
            machine.packages.count,
            machine.nodes.count,
        ]
        #expect(found == counts)
    }

    @Test func offlineCPUsAreLeftOut() throws {
        let machine = try TopologyFiles.load("16em64t-4s2c2t-offlines.xml")
        #expect(machine.processors.map(\.osIndex) == [0, 4, 12, 1, 6, 3, 15])
        #expect(machine.allowance.excluded == [2, 5, 7, 8, 9, 10, 11, 13, 14])
    }

    @Test func memoryOnlyNodesHaveNoPUs() throws {
        let machine = try TopologyFiles.load("16amd64-8n2c-cpusets.xml")
        #expect(machine.nodes.map(\.osIndex) == [1, 2, 3, 5, 4])
        #expect(machine.nodes.map(\.processors) == [[2, 3], [4], [5], [], []])
        #expect(machine.processors[0].node == nil)
    }

    @Test func distancesAreThoseOfTheLatencyMatrix() throws {
        let machine = try TopologyFiles.load("fakeheterodistances.xml")
        #expect(machine.nodes[0].distances == [10, 16, 16, 22, 16, 22, 16, 22])
        #expect(machine.nodes[5].distances == [22, 22, 16, 16, 16, 10, 22, 16])
    }

    @Test func kindsAreNamed() throws {
        #expect(try TopologyFiles.load("raptor-lake-6p8e.xml").kinds.map(\.name) == ["efficiency", "performance"])
        #expect(
            try TopologyFiles.load("fakecpukinds.xml").kinds.map(\.name) == ["MySmallCore", "YouBigcore", "IntelCore"]
        )
    }

    @Test func mcdramIsNobodysOwnNode() throws {
        let machine = try TopologyFiles.load("64intel64-fakeKNL-SNC4-hybrid.xml")
        #expect(machine.nodes.map(\.memoryKind) == [nil, "MCDRAM", nil, "MCDRAM", nil, "MCDRAM", nil, "MCDRAM"])
        #expect(machine.nodes.map(\.processors.count) == [16, 0, 16, 0, 16, 0, 16, 0])
    }
}

/// Checks the invariants that `Topology` promises.
func expectSound(_ machine: Topology, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(!machine.processors.isEmpty, sourceLocation: sourceLocation)
    #expect(machine.processors.map(\.index) == Array(machine.processors.indices), sourceLocation: sourceLocation)
    #expect(machine.nodes.map(\.index) == Array(machine.nodes.indices), sourceLocation: sourceLocation)
    #expect(machine.kinds.map(\.index) == Array(machine.kinds.indices), sourceLocation: sourceLocation)
    #expect(machine.nodes.allSatisfy { $0.distances.count == machine.nodes.count }, sourceLocation: sourceLocation)
    // By kind of object: which object each PU is in, as the objects tell it.
    func owners(_ objects: [(index: Int, processors: [Int])]) -> [Int?] {
        var owners = [Int?](repeating: nil, count: machine.processors.count)
        for object in objects { for processor in object.processors { owners[processor] = object.index } }
        return owners
    }
    let l2 = machine.caches.filter { $0.level == 2 }.map { ($0.index, $0.processors) }
    let l3 = machine.caches.filter { $0.level == 3 }.map { ($0.index, $0.processors) }
    let consistent =
        owners(machine.packages.map { ($0.index, $0.processors) }) == machine.processors.map(\.package)
        && owners(machine.cores.map { ($0.index, $0.processors) }) == machine.processors.map(\.core)
        && owners(machine.nodes.map { ($0.index, $0.processors) }) == machine.processors.map(\.node)
        && owners(l2) == machine.processors.map(\.l2) && owners(l3) == machine.processors.map(\.l3)
    #expect(consistent, sourceLocation: sourceLocation)
}
