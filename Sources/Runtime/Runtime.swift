// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

@_exported import Executor
@_exported import Fort
@_exported import LightProc
@_exported import Supervision
