// swift-tools-version: 6.2
// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import PackageDescription

let settings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

let package = Package(
    name: "NumaProof",
    dependencies: [.package(name: "bastion", path: "../..")],
    targets: [
        .target(name: "CSandbox"),
        .executableTarget(
            name: "numa-proof",
            dependencies: [
                .product(name: "LightProc", package: "bastion"), .product(name: "Executor", package: "bastion"),
                "CSandbox",
            ],
            swiftSettings: settings
        ),
        // The program of Examples: a symbolic link to its sources, as its package needs much else.
        .executableTarget(
            name: "topology",
            dependencies: [.product(name: "Executor", package: "bastion")],
            swiftSettings: settings + [
                .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("InternalImportsByDefault"),
            ]
        ),
    ]
)
