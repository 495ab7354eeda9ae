// swift-tools-version: 6.2
// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import PackageDescription

let package = Package(
    name: "FaultMatrix",
    products: [
        // Opened by the program while it runs.
        .library(name: "TrapAtLoad", type: .dynamic, targets: ["TrapAtLoad"])
    ],
    dependencies: [.package(name: "bastion", path: "../..")],
    targets: [
        .target(name: "CFaults"),
        .target(name: "TrapAtLoad"),
        .executableTarget(
            name: "fault-matrix",
            dependencies: [.product(name: "Runtime", package: "bastion"), "CFaults"],
            swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]
        ),
    ]
)
