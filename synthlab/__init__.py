__version__ = "0.1.0"
DISTRIBUTION = 'synthlab-text'             # name on the package index, where `synthlab` is somebody else's project; settings.ini has it too
